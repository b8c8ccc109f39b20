//! The commands, one file each.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod key;
pub(crate) mod models;
pub(crate) mod pull;
pub(crate) mod restore;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod tied;
