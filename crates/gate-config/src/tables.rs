//! Tables of the file that stand for one thing each, as `[[key]]` and `[[listen]]` do: read as a whole, so that a field can be
//! judged by its neighbours.

use crate::document::elsewhere;
use crate::nearest::nearest;
use crate::problem::{Place, Plain, Problem};
use crate::spec::Item;

/// One table as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) place: Place,
    pub(crate) fields: Vec<Field>,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Where the name stands; the item knows where its value does.
    pub(crate) place: Place,
    pub(crate) item: Item,
}

/// The value of the field of this name.
pub(crate) fn get<'f>(fields: &'f [Field], name: &str) -> Option<&'f Item> {
    fields.iter().find(|field| field.name == name).map(|field| &field.item)
}

/// A problem for each field that is none of `names`; `of` says what it is a setting of where its line does not show that.
pub(crate) fn unknown(fields: &[Field], names: &[&'static str], of: &str) -> Vec<Problem> {
    let strange = fields.iter().filter(|field| !names.contains(&field.name.as_str()));
    strange
        .map(|field| {
            let reason = format!("unknown setting \"{}\"{of}", Plain(&field.name));
            let problem = Problem::new(field.place.clone(), reason);
            match nearest(&field.name, names.iter().copied()) {
                Some(near) => problem.hint(format!("did you mean \"{near}\"?")),
                None => match elsewhere(&field.name) {
                    Some(hint) => problem.hint(hint),
                    None => problem.hint(format!("there are {}", names.join(", "))),
                },
            }
        })
        .collect()
}
