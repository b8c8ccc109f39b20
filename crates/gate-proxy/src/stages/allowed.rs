//! What of a call its key and the settings allow. Pure: facts in, a refusal or none out; every model-bearing route comes
//! through here.

use crate::pulls;
use crate::rules::Manage;
use crate::shared::Shared;
use crate::stages::auth::{Caller, permit};
use gate_types::{ModelName, Scope};
use gate_wire::{Asks, GateError, Reason, RouteId};

/// A model that a call names, and how.
pub(crate) struct Named<'c> {
    pub(crate) model: &'c ModelName,
    pub(crate) as_sent: &'c str,
}

/// Whether the route is switched on at all. Asked before a byte of the body is read.
pub(crate) fn route(manage: &Manage, route: RouteId) -> Result<(), GateError> {
    if route == RouteId::Push && !manage.push {
        return Err(GateError::new(Reason::PushDisabled));
    }
    Ok(())
}

/// Whether the key may see `model` in a list and use it.
pub(crate) fn may_see(shared: &Shared, caller: &Caller, model: &ModelName) -> bool {
    caller.may_use(model) && (caller.holds(Scope::Cloud) || !leaves(shared, model))
}

/// The key may use the model on this route, and the settings allow its registry where the upstream would turn to it.
pub(crate) fn model(
    shared: &Shared,
    manage: &Manage,
    caller: &Caller,
    route: RouteId,
    named: &Named<'_>,
) -> Result<(), GateError> {
    if !caller.may_use(named.model) {
        return Err(GateError::model_not_allowed(named.as_sent));
    }
    // To delete is the one thing that sends nothing anywhere. To copy would hide under another name what leaves the machine.
    if route != RouteId::Delete && !caller.holds(Scope::Cloud) {
        if leaves(shared, named.model) {
            return Err(GateError::missing_scope(Scope::Cloud));
        }
        // Closed, as long as nobody can tell.
        if shared.stubs.are_unsure() && !makes(route) && !shared.lists(named.model) {
            let is_new = shared.with_fleet(|fleet| fleet.iter().any(|(_, at)| at.awaits(named.model)));
            return Err(match shared.pulls.told_of(named.model, named.as_sent) {
                Some(told) => told,
                None if is_new => pulls::arrived(named.as_sent),
                None => GateError::new(Reason::ModelsUnlisted),
            });
        }
    }
    let registry = named.model.registry();
    if turns_to_registry(route) && !manage.registries.iter().any(|allowed| allowed == registry) {
        let text = format!("models of the registry '{registry}' are not allowed at this gate");
        return Err(GateError::new(Reason::RegistryNotAllowed).saying(text));
    }
    Ok(())
}

/// What a body asks for beyond its model.
pub(crate) fn asks(caller: &Caller, asks: &Asks) -> Result<(), GateError> {
    if asks.insecure || asks.odd_scheme {
        return Err(GateError::new(Reason::InsecureRefused));
    }
    if asks.server_tool || asks.remote_host {
        permit(caller, Scope::Cloud)?;
    }
    if asks.rendering || asks.verbose {
        permit(caller, Scope::Manage)?;
    }
    Ok(())
}

/// Whether a request for `model` would be passed on to another host.
pub(crate) fn leaves(shared: &Shared, model: &ModelName) -> bool {
    model.is_cloud() || shared.stubs.has(model)
}

/// Where the model need not be there yet.
fn makes(route: RouteId) -> bool {
    matches!(route, RouteId::Pull | RouteId::Create)
}

/// Where the name decides whom an upstream talks to, now or, for a copy, later.
fn turns_to_registry(route: RouteId) -> bool {
    matches!(route, RouteId::Pull | RouteId::Push | RouteId::Create | RouteId::Copy)
}
