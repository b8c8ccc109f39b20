//! How an upstream is got at: what is sent to it beside the caller's own, what it must show and is shown, how long it has.
//!
//! Another one may come in its place at any time (a token is renewed, a certificate too), and requests that run keep the one
//! that they began with. Its fields are secrets: they are written into heads and shown nowhere.

use std::fmt;
use std::time::Duration;

use gate_h1::encode;
use gate_types::Secret;

use crate::request::is_own;
use crate::tls::Tls;

/// What holds for one upstream alone. By default nothing does.
#[derive(Clone, Default)]
pub struct Access {
    /// Whole field lines, ready to be written.
    lines: Option<Secret>,
    /// The names in them.
    names: Vec<Box<str>>,
    tls: Option<Tls>,
    connect: Option<Duration>,
    has_credential: bool,
}

/// A field that cannot be sent; its value is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the field {name} cannot be sent to an upstream")]
pub struct BadField {
    name: String,
}

impl Access {
    /// With these fields in every request.
    ///
    /// # Errors
    /// [`BadField`] for one that the client writes itself, or that would change what stands around it.
    pub fn with_fields<'f>(
        mut self,
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
    ) -> Result<Self, BadField> {
        let (mut lines, mut names) = (Vec::new(), Vec::new());
        for (name, value) in fields {
            let bad = || BadField { name: name.to_owned() };
            if is_own(name) {
                return Err(bad());
            }
            encode::field(&mut lines, name, value).map_err(|_| bad())?;
            names.push(Box::from(name));
        }
        self.names = names;
        self.has_credential = !lines.is_empty();
        // Of texts nothing else comes.
        let lines = String::from_utf8(lines).map_err(|_| BadField { name: String::new() })?;
        self.lines = (!lines.is_empty()).then(|| Secret::new(lines));
        Ok(self)
    }

    /// With TLS of its own in place of that of all upstreams.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// With a time of its own for a connection to stand.
    #[must_use]
    pub fn with_connect(mut self, connect: Option<Duration>) -> Self {
        self.connect = connect;
        self
    }

    /// Whether credentials are sent to it.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.has_credential
    }

    /// Its own TLS, where it has one.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(crate) fn connect(&self) -> Option<Duration> {
        self.connect
    }

    /// Whether one of its own fields has this name.
    pub(crate) fn writes(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// The field lines; nothing for most.
    pub(crate) fn lines(&self) -> &str {
        self.lines.as_ref().map_or("", Secret::expose)
    }

    /// Whether a connection that was made with the one may be used with the other.
    pub(crate) fn shares_connections(&self, other: &Self) -> bool {
        match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(own), Some(other)) => own.is_same(other),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Access { lines, names: _, tls, connect, has_credential: _ } = self;
        let (fields, tls) = (lines.is_some(), tls.is_some());
        write!(f, "Access(own fields: {fields}, own TLS: {tls}, connect: {connect:?})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lines_that_nobody_sees() {
        let access = Access::default().with_fields([("Authorization", "Bearer canary"), ("X-Key", "canary")]);
        let access = access.unwrap();
        assert_eq!(access.lines(), "Authorization: Bearer canary\r\nX-Key: canary\r\n");
        assert!(access.writes("authorization") && access.writes("x-key") && !access.writes("canary"));
        assert!(access.has_credential() && !format!("{access:?}").contains("canary"));
        assert_eq!(Access::default().lines(), "");
    }

    #[test]
    fn what_would_change_the_head_is_refused() {
        for (name, value) in
            [("Host", "a"), ("Content-Length", "1"), ("X-Key", "a\r\nb: canary"), ("X Key", "a"), ("", "a")]
        {
            let bad = Access::default().with_fields([(name, value)]).unwrap_err();
            assert!(!bad.to_string().contains("canary"), "{bad}");
        }
    }
}
