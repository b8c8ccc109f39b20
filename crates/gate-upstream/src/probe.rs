//! A look at an upstream: which version, which models, which of them loaded. One shot; when to look is the owner's.
