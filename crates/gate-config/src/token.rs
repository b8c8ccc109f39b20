//! The one key that the environment may hold: `AUTH_TOKEN`, `AUTH_TOKEN_FILE`, or systemd's credential `AUTH_TOKEN`.
//!
//! Never lets the token into a problem, and never guesses which of two different ones was meant. What a token must be like is
//! told from above ([`TokenForm`]), as keys are no settings.

use crate::problem::{Place, Plain, Problem};
use crate::spec::not_utf8;
use gate_types::Secret;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Fewer are worth a warning.
const FEW_CHARACTERS: usize = 16;

/// Checks a token: gives reason and hint where it would protect nothing, or no client could send it. They never repeat it.
pub type TokenForm = fn(&Secret) -> Result<(), (String, &'static str)>;

/// Reads the small files that variables name. The caller's, as nothing here opens a file.
pub trait FileAccess {
    /// The whole text of a file; bounded by the implementation.
    ///
    /// # Errors
    /// Whatever the system says; `NotFound` where there is no such file, `InvalidData` where it is not UTF-8 or too long.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// A token from outside of the key store: a key named `env` that lives in memory alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthToken {
    /// The token.
    pub token: Secret,
    /// Where it came from.
    pub place: Place,
}

/// Finds the token, if somebody gave one.
pub(crate) fn find(
    env: &BTreeMap<String, String>,
    files: &dyn FileAccess,
    form: TokenForm,
) -> Result<Option<AuthToken>, Vec<Problem>> {
    let candidates = [from_variable(env), from_file(env, files), from_credential(env, files)];
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match candidate.and_then(|token| token.map(|token| sound(token, form)).transpose()) {
            Ok(token) => found.extend(token),
            Err(problem) => problems.push(problem),
        }
    }
    if let [first, others @ ..] = &found[..]
        && let Some(other) = others.iter().find(|other| other.token != first.token)
    {
        let reason = format!("differs from the token in {}", first.place);
        problems.push(Problem::new(other.place.clone(), reason).hint("keep one of the two"));
    }
    if problems.is_empty() { Ok(found.into_iter().next()) } else { Err(problems) }
}

type Candidate = Result<Option<AuthToken>, Problem>;

fn from_variable(env: &BTreeMap<String, String>) -> Candidate {
    let name = "AUTH_TOKEN";
    let Some(text) = env.get(name) else { return Ok(None) };
    if text.contains('\u{fffd}') {
        return Err(not_utf8(name));
    }
    Ok(Some(AuthToken { token: Secret::new(text.clone()), place: Place::env(name) }))
}

fn from_file(env: &BTreeMap<String, String>, files: &dyn FileAccess) -> Candidate {
    let name = "AUTH_TOKEN_FILE";
    let Some(path) = env.get(name).filter(|path| !path.is_empty()) else { return Ok(None) };
    let place = Place::env(name);
    match files.read(Path::new(path)) {
        Ok(text) => Ok(Some(AuthToken { token: first_line(&text), place })),
        Err(err) => {
            Err(Problem::new(place, format!("cannot read {}: {}", Plain(path), Plain(&err.to_string()))))
        }
    }
}

fn from_credential(env: &BTreeMap<String, String>, files: &dyn FileAccess) -> Candidate {
    let Some(folder) = env.get("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(folder).join("AUTH_TOKEN");
    let place = Place::Path(path.clone());
    match files.read(&path) {
        Ok(text) => Ok(Some(AuthToken { token: first_line(&text), place })),
        // The service may have other credentials.
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Problem::new(place, format!("cannot be read: {}", Plain(&err.to_string())))),
    }
}

/// Files end in a line break that belongs to no token.
fn first_line(text: &str) -> Secret {
    Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A token that somebody may guess is told to whoever set it. It is not refused: the tokens of other gates are as short.
pub(crate) fn short(token: &AuthToken) -> Option<Problem> {
    let length = token.token.expose().chars().count();
    (length < FEW_CHARACTERS).then(|| {
        let reason = format!("the token has {length} characters: whoever tries can guess it");
        let hint = format!("use {FEW_CHARACTERS} or more, best: openssl rand -hex 32");
        Problem::new(token.place.clone(), reason).hint(hint)
    })
}

fn sound(token: AuthToken, form: TokenForm) -> Result<AuthToken, Problem> {
    match form(&token.token) {
        Ok(()) => Ok(token),
        Err((reason, hint)) => Err(Problem::new(token.place, reason).hint(hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that are only there in memory.
    struct Files(BTreeMap<&'static str, &'static str>);

    impl FileAccess for Files {
        fn read(&self, path: &Path) -> io::Result<String> {
            let text = path.to_str().and_then(|path| self.0.get(path));
            text.map(|text| (*text).to_owned()).ok_or_else(|| io::Error::from(ErrorKind::NotFound))
        }
    }

    fn form(token: &Secret) -> Result<(), (String, &'static str)> {
        let is_good = !["", "changeme"].contains(&token.expose());
        if is_good { Ok(()) } else { Err(("the token is known".to_owned(), "make another")) }
    }

    fn look(
        vars: &[(&str, &str)],
        files: &[(&'static str, &'static str)],
    ) -> Result<Option<AuthToken>, Vec<String>> {
        let env = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let files = Files(files.iter().copied().collect());
        let found = find(&env, &files, form);
        found.map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    fn token_from(vars: &[(&str, &str)], files: &[(&'static str, &'static str)]) -> (String, String) {
        let token = look(vars, files).unwrap().unwrap();
        (token.token.expose().to_owned(), token.place.to_string())
    }

    const CREDENTIALS: (&str, &str) = ("CREDENTIALS_DIRECTORY", "/run/credentials/herdgate");
    const CREDENTIAL: &str = "/run/credentials/herdgate/AUTH_TOKEN";

    #[test]
    fn each_source_is_found() {
        assert_eq!(look(&[], &[]), Ok(None));
        let found = token_from(&[("AUTH_TOKEN", "s3cret with blanks")], &[]);
        assert_eq!(found, ("s3cret with blanks".to_owned(), "AUTH_TOKEN".to_owned()));
        let found = token_from(&[("AUTH_TOKEN_FILE", "/t")], &[("/t", "s3cret\r\n")]);
        assert_eq!(found, ("s3cret".to_owned(), "AUTH_TOKEN_FILE".to_owned()));
        let found = token_from(&[CREDENTIALS], &[(CREDENTIAL, "s3cret\n")]);
        assert_eq!(found, ("s3cret".to_owned(), CREDENTIAL.to_owned()));
    }

    #[test]
    fn a_credentials_folder_without_ours_is_none() {
        assert_eq!(look(&[CREDENTIALS], &[]), Ok(None));
        assert_eq!(look(&[("CREDENTIALS_DIRECTORY", ""), ("AUTH_TOKEN_FILE", "")], &[]), Ok(None));
    }

    #[test]
    fn two_equal_are_one_and_two_different_are_a_problem() {
        let vars = [("AUTH_TOKEN", "s3cret"), ("AUTH_TOKEN_FILE", "/t")];
        assert_eq!(token_from(&vars, &[("/t", "s3cret\n")]).1, "AUTH_TOKEN");
        let problems = look(&vars, &[("/t", "canary\n")]).unwrap_err();
        let told = "AUTH_TOKEN_FILE differs from the token in AUTH_TOKEN  hint: keep one of the two";
        assert_eq!(problems, [told]);
    }

    #[test]
    fn what_is_no_token_is_told_with_its_place_and_what_to_do() {
        let told = |token| look(&[("AUTH_TOKEN", token)], &[]).unwrap_err();
        assert_eq!(told("changeme"), ["AUTH_TOKEN the token is known  hint: make another"]);
        assert!(told("a\u{fffd}")[0].starts_with("AUTH_TOKEN is not UTF-8"));
    }

    #[test]
    fn all_problems_of_all_sources_come_at_once() {
        let vars = [("AUTH_TOKEN", ""), ("AUTH_TOKEN_FILE", "/absent"), CREDENTIALS];
        let problems = look(&vars, &[(CREDENTIAL, "changeme\n")]).unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[1].starts_with("AUTH_TOKEN_FILE cannot read /absent: "), "{problems:?}");
    }
}
