//! The way of a request through gates: who sends it on adds a mark that nobody can guess, and knows it again should the request
//! come back. So a loop ends at its first turn.
//!
//! A client can write the field too. All that it gets by that is its own request refused: each exchange has its own mark, known
//! to nobody but those it goes by, and it is nobody's any more once the exchange has its answer. Marks that are nobody's
//! are passed on as they are. A mark of a request that came back is a suspicion and no more: it has the upstreams looked at.
//! So is one of a probe's listings, which gates pass on to whoever is behind them. Only a mark that no gate passes on, that of a
//! probe's question for the version, takes an upstream out when it comes back. The field is checked before the key, for what
//! comes back may have lost that. What goes to an Ollama goes without it.

use crate::downstream::Head;
use crate::gate::Gate;
use crate::trace::Trace;
use gate_types::UpstreamId;
use gate_upstream::probe::HOPS;
use gate_upstream::{Along, Mark};
use gate_wire::{GateError, Reason};

/// So many gates may stand one behind the other.
const MOST_HOPS: usize = 16;

/// Refuses what this gate has sent itself, and what has come too far.
pub(crate) fn check(gate: &Gate, head: &Head, trace: &mut Trace) -> Result<(), GateError> {
    if head.first(HOPS).is_none() {
        return Ok(());
    }
    trace.came_by_gate = true;
    let Some(marks) = marks(head) else {
        return Err(GateError::new(Reason::BadRequest).saying("Herdgate-Hops is not as gates write it"));
    };
    let roster = gate.upstream.roster();
    if let Some(sent) = roster.find_marked(marks.split(',').filter_map(Mark::read)) {
        match sent.along {
            Along::Proof => roster.came_back(sent.upstream),
            // The probe is under way: it tells of this at its end.
            Along::Listing => roster.suspect(sent.upstream),
            Along::Request => gate.shared.doubt(),
        }
        let way = format!("what was sent to {} came back", gate.shared.upstream_name(sent.upstream));
        return Err(GateError::new(Reason::UpstreamLoop).because(way));
    }
    let count = marks.split(',').count();
    if count >= MOST_HOPS {
        let way = format!("the request came by {count} gates");
        return Err(GateError::new(Reason::UpstreamLoop).because(way));
    }
    Ok(())
}

/// The marks as they were sent, where they are what gates write: one field of hexadecimal texts of one length, no blank.
fn marks(head: &Head) -> Option<&str> {
    let mut all = head.all(HOPS);
    let (Some(_), None) = (all.next(), all.next()) else { return None };
    let marks = head.first_text(HOPS)?;
    let is_mark = |mark: &str| Mark::read(mark).is_some();
    (marks.len() < MOST_HOPS * (Mark::LENGTH + 1) && marks.split(',').all(is_mark)).then_some(marks)
}

/// What goes along to an upstream. Keep it until the answer is there: so long what comes back is known.
pub(crate) struct Onward<'g> {
    text: String,
    _mark: Option<Mark<'g>>,
}

impl Onward<'_> {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// What goes along to this upstream: the marks that came, and a new one. Nothing where nobody there would send it on.
pub(crate) fn onward<'g>(gate: &'g Gate, head: &Head, trace: &Trace, id: UpstreamId) -> Option<Onward<'g>> {
    let roster = gate.upstream.roster();
    if !trace.came_by_gate && !roster.is_gate(id) {
        return None;
    }
    let came = if trace.came_by_gate { marks(head) } else { None };
    let own = roster.mark(id, Along::Request);
    let text = match (came, &own) {
        (Some(came), Some(own)) => format!("{came},{own}"),
        (Some(came), None) => came.to_owned(),
        (None, Some(own)) => own.to_string(),
        (None, None) => return None,
    };
    Some(Onward { text, _mark: own })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Option<String> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        marks(&Head::parse(&text)).map(str::to_owned)
    }

    #[test]
    fn only_what_gates_write_is_read() {
        let (one, other) = ("0123456789abcdef0123456789abcdef", "ffffffffffffffffffffffffffffffff");
        let field = |value: &str| read(&format!("herdgate-hops: {value}\r\n"));
        assert_eq!(field(one).as_deref(), Some(one));
        let both = format!("{one},{other}");
        assert_eq!(field(&both), Some(both.clone()));
        let sixteen = [one; 16].join(",");
        assert_eq!(field(&sixteen), Some(sixteen.clone()));
        for bad in [
            String::new(),
            "gate".to_owned(),
            one.to_uppercase(),
            one[1..].to_owned(),
            format!("{one}, {other}"),
            format!("{one},"),
            [one; 17].join(","),
        ] {
            assert_eq!(field(&bad), None, "{bad}");
        }
        assert_eq!(read(&format!("Herdgate-Hops: {one}\r\nHerdgate-Hops: {other}\r\n")), None);
    }
}
