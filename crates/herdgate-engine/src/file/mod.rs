//! A model file before llama.cpp sees it: what its header says, whether it is whole, what memory it needs.

pub(crate) mod facts;
pub(crate) mod gguf;
pub(crate) mod memory;
pub(crate) mod trial;

pub(crate) use facts::{Facts, Preferred, Purpose};
