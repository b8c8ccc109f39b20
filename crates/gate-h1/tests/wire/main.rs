//! What goes over the wire, as a user of the crate sees it: rules, real answers, hyper's opinion, the fuzz corpora.

#![cfg(test)]

mod cases;
mod golden;
mod oracle;
mod property;
mod proxy;
mod replay;
mod rules;
