//! `set` and `log`: what a key may do from now on, and who changed which key when.

use super::Desk;
use super::args::{LogArgs, SetArgs};
use super::trouble::{Trouble, both};
use super::wanted::{read_change, read_name};
use gate_keys::KeyStore as _;

impl Desk<'_> {
    pub(super) fn set(&mut self, args: &SetArgs) -> Result<(), Trouble> {
        let (name, change) = both(read_name(&args.name), read_change(args, self.now))?;
        let (_, mut store) = self.holding(&name)?;
        let key = store.set(&name, &change, self.now).map_err(|error| self.unknown(&store, error))?;
        if args.json {
            self.out.write_all(self.shape.json_of(&key).as_bytes())?;
        }
        self.say(format_args!("Key \"{name}\" changed. A running gate takes it within a second."));
        self.say(format_args!("{}", self.shape.rights(&key).trim_end()));
        if key.expires.is_some_and(|end| end <= self.now) {
            self.say(format_args!("It has expired all the same: --expires gives it time."));
        }
        Ok(())
    }

    pub(super) fn log(&mut self, args: &LogArgs) -> Result<(), Trouble> {
        // A name that no stored key ever had may be one of the settings.
        let name = args.name.as_deref().map(read_name).transpose()?;
        let mut lines = match self.existing()? {
            Some((_, store)) => store.log(0)?,
            None => Vec::new(),
        };
        lines.retain(|line| name.as_ref().is_none_or(|name| line.name == *name));
        let text = if args.json { self.shape.json_log(&lines) } else { self.shape.log(&lines) };
        self.out.write_all(text.as_bytes())?;
        if lines.is_empty() {
            self.say(format_args!("No change of a key is known in {}.", self.data.display()));
        }
        Ok(())
    }
}
