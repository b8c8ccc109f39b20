//! The commands, one file each.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod key;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod tied;
