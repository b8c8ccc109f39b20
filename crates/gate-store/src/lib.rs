//! Where herdgate keeps things on disk: a private directory, and in it the SQLite database of keys.
//!
//! Floor 3, a door: behind the traits of the crates below. Blocking, so the control plane calls it and the request path
//! never does. Whatever is found there that is not herdgate's, or cannot be read, is refused and left as it was.

mod copy;
mod data_dir;
mod fault;
mod folder;
mod identity;
mod image;
mod lock;
mod look;
mod rows;
mod schema;
mod sqlite;

pub use copy::{DatabaseCopy, DatabaseFacts, examine_copy, has_key};
pub use data_dir::{
    ACME_CERTIFICATE_FILE, ACME_FILE, ADMIN_SOCKET, DataDir, FIRST_KEY_FILE, TLS_CA_FILE, TLS_CA_KEY_FILE,
    is_in_backups,
};
pub use folder::{ASIDE, Entry, FROM_BACKUP};
pub use lock::{DirLock, is_in_use};
pub use schema::{DATABASE_FILE, StoreId};
pub use sqlite::SqliteStore;
