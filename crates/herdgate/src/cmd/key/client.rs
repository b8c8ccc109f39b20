//! `create --for KIND`: the settings of a client with the key that was just made. Everything but the key is known to be right before
//! there is one.

use super::Desk;
use super::args::CreateArgs;
use super::trouble::{Trouble, usage};
use super::wanted::Wanted;
use crate::deploy::client::{AboutArgs, Filled};

impl<'d> Desk<'d> {
    /// The settings, where some were asked for.
    pub(super) fn setup(&self, args: &CreateArgs, wanted: &Wanted) -> Result<Option<Filled<'d>>, Trouble> {
        let (Some(client), Some(ground)) = (args.client, self.ground) else {
            return match args.about == AboutArgs::default() {
                true => Ok(None),
                false => Err(usage(
                    "--gate, --model and --ca are of the settings of a client, and none is named",
                    "name it: --for python (which models a key may use is --models)",
                )),
            };
        };
        let setup = Filled::of(client, &args.about, ground).and_then(|setup| setup.among(&wanted.models));
        let setup = setup.map_err(Trouble::Setup)?;
        // With --json nobody pipes it into a shell.
        match setup.in_the_way(&args.name, ground.here).filter(|_| !args.json) {
            Some(file) => Err(usage(
                format!(
                    "{file} is in this folder already, and what would be printed writes over none: no key was made"
                ),
                &format!(
                    "run it in another folder, move {file} away, or make the key alone, and the program by itself: \
                     herdgate deploy client {}",
                    client.word()
                ),
            )),
            None => Ok(Some(setup)),
        }
    }

    /// Says what somebody does with the settings that were printed.
    pub(super) fn say_setup(&mut self, args: &CreateArgs, setup: &Filled<'_>) {
        if let (Some(client), None) = (args.client, &args.scope) {
            self.say(format_args!("These scopes are what {} asks for.", client.word()));
        }
        self.say(format_args!(
            "A running gate takes it at once. Its settings were printed, with the key in them."
        ));
        for note in setup.notes_of_filled_in() {
            self.say(format_args!("note: {note}"));
        }
    }
}
