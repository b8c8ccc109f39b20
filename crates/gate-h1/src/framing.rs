//! From the fields of a head to the framing of its body (RFC 9112 section 6), in one pass over the fields.
//!
//! This is where request smuggling is decided: every doubt is an error, nothing is repaired or overridden.

use crate::fields::list_has;
use crate::{Fields, Framing, H1Error, MAX_LENGTH, Version, chars, same_name};

/// What a head says about the connection and its body, before the kind of message is looked at.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
    expect_other: bool,
}

impl Facts {
    /// Gathers and checks the fields that decide about framing and the connection.
    pub(crate) fn gather(fields: &Fields<'_>, version: Version) -> Result<Self, H1Error> {
        let mut facts = Self::default();
        for (name, value) in fields.iter() {
            // The lengths first: nearly every field is passed over with one comparison.
            match name.len() {
                6 if same_name(name.as_bytes(), b"expect") => facts.expect(value),
                10 if same_name(name.as_bytes(), b"connection") => {
                    facts.close |= list_has(value, "close");
                    facts.keep_alive |= list_has(value, "keep-alive");
                }
                14 if same_name(name.as_bytes(), b"content-length") => {
                    let length = content_length(value)?;
                    if facts.length.replace(length).is_some() {
                        return Err(H1Error::LengthTwice);
                    }
                }
                17 if same_name(name.as_bytes(), b"transfer-encoding") => {
                    if facts.chunked {
                        return Err(H1Error::CodingTwice);
                    }
                    check_coding(value)?;
                    facts.chunked = true;
                }
                _ => {}
            }
        }
        if facts.chunked && facts.length.is_some() {
            return Err(H1Error::LengthAndCoding);
        }
        if facts.chunked && version == Version::H10 {
            return Err(H1Error::CodingInHttp10);
        }
        Ok(facts)
    }

    /// The framing of a request: without any field about it there is no body.
    pub(crate) const fn of_request(&self) -> Framing {
        match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        }
    }

    /// The framing of a response; `to_head` if it answers a HEAD request.
    pub(crate) const fn of_response(&self, status: u16, to_head: bool) -> Result<Framing, H1Error> {
        if status < 200 || status == 204 {
            // RFC 9112 section 6.3 ends these at the empty line whatever they announce; one that announces a body
            // may well send it, and its bytes would be read as the next answer.
            return if self.chunked || !matches!(self.length, None | Some(0)) {
                Err(H1Error::BodyForbidden)
            } else {
                Ok(Framing::None)
            };
        }
        Ok(match (self.chunked, self.length) {
            _ if to_head || status == 304 => Framing::None,
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        })
    }

    /// Whether the connection may carry another message after this one (RFC 9112 section 9.3).
    pub(crate) const fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::H11 => !self.close,
            Version::H10 => self.keep_alive && !self.close,
        }
    }

    /// Whether the client waits for `100 Continue` before it sends a body. HTTP/1.0 has no such wait
    /// (RFC 9110 section 10.1.1).
    pub(crate) const fn expect_continue(&self, version: Version) -> Result<bool, H1Error> {
        if self.expect_other {
            return Err(H1Error::Expectation);
        }
        Ok(self.expect_continue && matches!(version, Version::H11) && !self.of_request().is_empty())
    }

    const fn expect(&mut self, value: &[u8]) {
        if value.eq_ignore_ascii_case(b"100-continue") {
            self.expect_continue = true;
        } else {
            self.expect_other = true;
        }
    }
}

/// 1 to 20 decimal digits up to [`MAX_LENGTH`]; no sign, no list, no white space inside.
fn content_length(value: &[u8]) -> Result<u64, H1Error> {
    if value.is_empty() || value.len() > 20 {
        return Err(H1Error::Length);
    }
    let mut length: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return Err(H1Error::Length);
        }
        length = length
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
            .ok_or(H1Error::Length)?;
    }
    if length > MAX_LENGTH { Err(H1Error::Length) } else { Ok(length) }
}

/// Accepts exactly `chunked`; the rest is sorted only to name the right cause.
fn check_coding(value: &[u8]) -> Result<(), H1Error> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut before = value.split(|&byte| byte == b',').map(chars::trim);
    let last = before.next_back().unwrap_or_default();
    if !last.eq_ignore_ascii_case(b"chunked") {
        return Err(H1Error::Coding);
    }
    for coding in before {
        if !chars::is_token(coding) {
            return Err(H1Error::Coding);
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            return Err(H1Error::CodingTwice);
        }
    }
    Err(H1Error::CodingUnsupported)
}
