//! Keys in a real SQLite file: the promises of every store (`suite`), those of a file that others may write, and what
//! happens when it is damaged, replaced or taken away (`trouble`).

#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod trouble;
