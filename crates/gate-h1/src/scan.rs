//! Where a head ends, found without looking at any byte twice.
//!
//! A head that arrives byte by byte would cost quadratic time if it were parsed on each arrival. The scan remembers
//! how far it looked, judges line ends and bounds as they come, and lets the parser run once, on a whole head.
//! A head that came whole, as nearly all do, is looked through eight bytes at a time.

use crate::head::{self, RequestHead, ResponseHead};
use crate::{H1Error, Limits, Parsed, chars};

/// How far a head that arrives in pieces has been looked through.
///
/// Use one per connection: hand it the same bytes again with the new ones behind them. It starts over by itself
/// after each whole head. After an error the connection must be closed.
#[derive(Debug, Clone, Default)]
pub struct HeadScan {
    /// Bytes that need no second look.
    seen: usize,
    /// Where the line begins that is being looked at.
    line: usize,
    /// Lines that ended, without the empty ones.
    lines: usize,
    /// Bytes of empty line before the head.
    lead: usize,
}

impl HeadScan {
    /// As [`request_head`](crate::request_head), for bytes that grow between the calls.
    ///
    /// # Errors
    /// As soon as the bytes so far cannot become an acceptable head.
    pub fn request<'b>(
        &mut self,
        buf: &'b [u8],
        limits: &Limits,
    ) -> Result<Parsed<RequestHead<'b>>, H1Error> {
        // RFC 9112 section 2.2: an empty line before a request is to be ignored; one is, more are not.
        if self.lead == 0 && buf.starts_with(b"\r\n") {
            *self = Self { seen: 2, line: 2, lines: 0, lead: 2 };
        }
        if self.lead == 0 && buf == b"\r" {
            return Ok(Parsed::Partial);
        }
        let Some(end) = self.find_end(buf, limits)? else { return Ok(Parsed::Partial) };
        let parsed = head::parse_request(&buf[self.lead..end], self.lines)
            .map_err(|error| self.cause(error, buf, limits))?;
        *self = Self::default();
        Ok(Parsed::Done(parsed, end))
    }

    /// As [`response_head`](crate::response_head), for bytes that grow between the calls.
    ///
    /// # Errors
    /// As soon as the bytes so far cannot become an acceptable head.
    pub fn response<'b>(
        &mut self,
        buf: &'b [u8],
        limits: &Limits,
        request_was_head: bool,
    ) -> Result<Parsed<ResponseHead<'b>>, H1Error> {
        let Some(end) = self.find_end(buf, limits)? else { return Ok(Parsed::Partial) };
        let parsed = head::parse_response(&buf[..end], self.lines, request_was_head)
            .map_err(|error| self.cause(error, buf, limits))?;
        *self = Self::default();
        Ok(Parsed::Done(parsed, end))
    }

    /// The end of the head, its empty line included.
    fn find_end(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<usize>, H1Error> {
        if buf.get(self.lead).is_some_and(|&first| !chars::is_token_byte(first)) {
            return Err(H1Error::NotHttp);
        }
        // Nothing behind the bound is looked at, so that the verdict does not depend on how much came at once.
        let within = &buf[..buf.len().min(limits.head)];
        if self.seen == self.lead
            && let Some((end, lines)) = whole_head(within, self.lead, limits)
        {
            self.lines = lines;
            return Ok(Some(end));
        }
        self.find_end_by_line(within, limits)
    }

    fn find_end_by_line(&mut self, within: &[u8], limits: &Limits) -> Result<Option<usize>, H1Error> {
        let from = self.seen.min(within.len());
        self.seen = within.len();
        for at in memchr::memchr2_iter(b'\r', b'\n', &within[from..]).map(|at| at + from) {
            if within[at] == b'\r' {
                match within.get(at + 1) {
                    Some(b'\n') => {}
                    Some(_) => return Err(H1Error::BareCr),
                    None => self.seen = at,
                }
                continue;
            }
            if at == 0 || within[at - 1] != b'\r' {
                return Err(H1Error::BareLf);
            }
            if at - 1 == self.line {
                return Ok(Some(at + 1));
            }
            self.lines += 1;
            self.line = at + 1;
            if self.lines > limits.fields.saturating_add(1) {
                return Err(H1Error::TooManyFields);
            }
        }
        if within.len() < limits.head {
            return Ok(None);
        }
        Err(if self.lines == 0 { H1Error::LineTooLong } else { H1Error::HeadTooLarge })
    }

    /// What is wrong with a head that was refused: its line ends, if they are, so that the cause is the same as when
    /// the head had come in pieces.
    fn cause(&self, refused: H1Error, buf: &[u8], limits: &Limits) -> H1Error {
        let mut again = Self { seen: self.lead, line: self.lead, lines: 0, lead: self.lead };
        again.find_end_by_line(&buf[..buf.len().min(limits.head)], limits).err().unwrap_or(refused)
    }
}

/// The end of a head that is here as a whole and all of whose LF follow a CR, and the number of its lines. Where a CR stands
/// alone, the parser refuses it.
fn whole_head(within: &[u8], lead: usize, limits: &Limits) -> Option<(usize, usize)> {
    let mut line = lead;
    let mut lines = 0;
    while let Some(at) = chars::near(b'\n', within.get(line..)?).map(|at| at + line) {
        if at == line || within[at - 1] != b'\r' {
            return None;
        }
        if at - 1 == line {
            return Some((at + 1, lines));
        }
        lines += 1;
        line = at + 1;
        if lines > limits.fields.saturating_add(1) {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head of the greatest size, byte by byte: each call may look at the new byte and the one before, no more.
    #[test]
    fn nothing_is_looked_at_twice() {
        let limits = Limits::DEFAULT;
        let mut head = b"\r\nGET / HTTP/1.1\r\n".to_vec();
        while head.len() < limits.head - 400 {
            head.extend_from_slice(b"X: ");
            head.extend_from_slice(&[b'a'; 390]);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let mut scan = HeadScan::default();
        for end in 1..head.len() {
            assert_eq!(scan.request(&head[..end], &limits), Ok(Parsed::Partial));
            assert!(end - scan.seen <= 1, "{} of {end} bytes would be looked at again", end - scan.seen);
        }
        let Ok(Parsed::Done(request, used)) = scan.request(&head, &limits) else {
            panic!("the head is whole")
        };
        assert_eq!((used, request.fields.len()), (head.len(), (head.len() - 20) / 395));
        assert_eq!(scan.seen, 0, "ready for the next head");
    }
}
