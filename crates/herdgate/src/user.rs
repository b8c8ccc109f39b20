//! Who runs this process: the name that changes of keys are logged under.

use std::fs;

const ACCOUNTS: &str = "/etc/passwd";

/// The user's name, or number where it has none; behind `sudo`, on whose behalf.
pub(crate) fn name() -> String {
    let uid = rustix::process::getuid();
    let accounts = fs::read_to_string(ACCOUNTS).unwrap_or_default();
    let own = name_of(&accounts, uid.as_raw()).unwrap_or_else(|| format!("user {}", uid.as_raw()));
    // Only root is believed: anybody may set the variable.
    match std::env::var("SUDO_USER") {
        Ok(person) if uid.is_root() && !person.is_empty() => format!("{own} for {person}"),
        Ok(_) | Err(_) => own,
    }
}

/// A line is `name:password:uid:…` (passwd(5)).
fn name_of(accounts: &str, uid: u32) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut columns = line.split(':');
        let (name, number) = (columns.next()?, columns.nth(1)?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_number() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\n\nbroken\nalice:x:1000:1000::/home/alice:\n";
        assert_eq!(name_of(accounts, 1000).as_deref(), Some("alice"));
        assert_eq!(name_of(accounts, 0).as_deref(), Some("root"));
        assert_eq!(name_of(accounts, 7), None);
    }
}
