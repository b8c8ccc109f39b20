//! The stages of a request, one file each, in the order of `path.rs`.

pub(crate) mod admission;
pub(crate) mod allowed;
pub(crate) mod answer;
pub(crate) mod attempt;
pub(crate) mod auth;
pub(crate) mod call;
pub(crate) mod cors;
pub(crate) mod extra;
pub(crate) mod hops;
pub(crate) mod intake;
pub(crate) mod missing;
pub(crate) mod own;
pub(crate) mod proxied;
pub(crate) mod redirect;
pub(crate) mod route;
pub(crate) mod show;
pub(crate) mod upload;
