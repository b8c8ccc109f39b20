//! Units for every combination of settings and options, judged by systemd itself.
