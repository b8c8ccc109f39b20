//! A request that a trusted proxy passed on counts for its client's address while it runs, as a connection of its own would: the
//! proxy's connections stand for nobody. Other requests are not looked at here.

use crate::crowd::Visit;
use crate::downstream::Downstream;
use crate::gate::Gate;
use crate::rules::Rules;
use gate_wire::{GateError, Reason};

/// Counts the request until what this gives is dropped. An error where its address has as many as one may have.
pub(crate) fn count<'g, D: Downstream>(
    gate: &'g Gate,
    rules: &Rules,
    down: &D,
) -> Result<Option<Visit<'g>>, GateError> {
    let entered = down.entered();
    if !entered.way.is_proxied {
        return Ok(None);
    }
    let address = down.source().address;
    if entered.entrance.trusts(address) {
        return Ok(None);
    }
    let visit = gate.shared.crowd.visit(address, rules.limits.per_address);
    visit.map(Some).map_err(|_turned_away| GateError::new(Reason::AddressFull))
}
