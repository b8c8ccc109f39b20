//! Plans and undoings.
