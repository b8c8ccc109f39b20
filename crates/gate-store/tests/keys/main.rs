//! Keys in a real SQLite file: the promises of every store (`suite`), those of a file that others may write, what happens
//! when it is damaged, replaced or taken away (`trouble`), and that others see what becomes of it (`processes`).

#[cfg(test)]
mod processes;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod trouble;
