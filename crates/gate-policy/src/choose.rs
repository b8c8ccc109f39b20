//! Where a call goes. Pure: reads the fleet, returns a named answer; the caller acts on it.

use crate::chance::Chance;
use crate::fleet::Fleet;
use crate::upstream::{Health, Upstream};
use gate_types::{ModelName, UpstreamId};

/// What a call needs of an upstream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// The model that is asked for; `None` where the route or the body names none.
    pub model: Option<&'a ModelName>,
    /// Whether it runs a model, and so needs a slot.
    pub runs_model: bool,
    /// Whether only an upstream will do that is up and known to have the model: where the call was answered already, if
    /// badly, a guess would make the answer worse.
    pub for_sure: bool,
}

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it to this upstream.
    Send(UpstreamId),
    /// Those that suit it best have no slot free.
    Wait,
    /// Send it nowhere.
    Reject(Why),
}

/// Why a call goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is no upstream at all.
    NoUpstream,
    /// Each upstream that comes into question was tried already.
    AllTried,
    /// Whatever is left leads back to this gate.
    Loop,
}

/// Chooses the upstream for a call among those that are not in `tried`.
///
/// Best first: up and known to have the model, warm before cold, fewest in flight for its weight, chance among equals; then one that
/// has it but is down (its list is what was known last, and nobody else can help); then one that is up and may have
/// got the model since its last probe; last, any but one that leads back to this gate. Without a model only health and load count.
///
/// A call that runs a model goes to one that is ejected only where no other of its kind is left, busy or not: who fails at once
/// always has a slot free, and would draw all who wait.
///
/// A call that runs a model goes to none whose slots are all taken. A full one still counts as one that has the model: the
/// call waits for it and for its like, and does not go where the model is only hoped for, or to one that is down. But it
/// does go to a cold one with a free slot while the warm ones are full: loading takes seconds, and for how long a slot is
/// taken nobody knows.
pub fn choose(fleet: &Fleet, ask: &Ask<'_>, tried: &[UpstreamId], chance: &mut Chance) -> Decision {
    match weigh(fleet, ask, tried, chance) {
        Weighed::Send(id) => Decision::Send(id),
        Weighed::Wait(_) => Decision::Wait,
        Weighed::Reject(why) => Decision::Reject(why),
    }
}

/// A [`Decision`] for who may have to wait.
pub(crate) enum Weighed {
    Send(UpstreamId),
    Wait(Wish),
    Reject(Why),
}

/// What a call waits for: a slot at an upstream that suits it no worse than the full ones; whether that is ejected is left to
/// the choice. Holds until more of the fleet changes than who has a slot free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish(Tier);

impl Wish {
    /// Whether a free slot there is what the call waits for.
    pub(crate) fn is_met_by(self, upstream: &Upstream, ask: &Ask<'_>) -> bool {
        Tier::of(upstream, ask) <= self.0
    }
}

/// Makes the choice of [`choose`].
pub(crate) fn weigh(fleet: &Fleet, ask: &Ask<'_>, tried: &[UpstreamId], chance: &mut Chance) -> Weighed {
    if fleet.ollamas().next().is_none() {
        return Weighed::Reject(Why::NoUpstream);
    }
    let mut best: Option<(Merit, UpstreamId)> = None;
    let mut equals: u32 = 0;
    for (id, upstream) in fleet.ollamas().filter(|(id, _)| !tried.contains(id)) {
        let (merit, room) = Merit::of(upstream, ask);
        if ask.for_sure && merit.tier != Tier::UpWithModel {
            continue;
        }
        let takes = match best {
            Some((top, _)) if merit > top => false,
            // Each of n equals wins with the same chance: the n-th replaces the holder one time in n. One with room for
            // several requests counts as so many.
            Some((top, _)) if merit == top => {
                equals = equals.saturating_add(room);
                chance.some_in(room, equals)
            }
            _ => {
                equals = room;
                true
            }
        };
        if takes {
            best = Some((merit, id));
        }
    }
    match best {
        None => Weighed::Reject(Why::AllTried),
        Some((merit, _)) if merit.tier == Tier::Never => Weighed::Reject(Why::Loop),
        Some((merit, _)) if merit.is_full => Weighed::Wait(Wish(merit.tier)),
        Some((_, id)) => Weighed::Send(id),
    }
}

/// How well an upstream suits a call; the least is the best. The order of the fields is the order of the rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Merit {
    tier: Tier,
    is_ejected: bool,
    is_full: bool,
    is_cold: bool,
    failures: u32,
    load: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    UpWithModel,
    DownWithModel,
    MayHaveIt,
    Down,
    /// It leads back here.
    Never,
}

impl Tier {
    fn of(upstream: &Upstream, ask: &Ask<'_>) -> Self {
        let has = ask.model.is_some_and(|model| upstream.has(model));
        match (upstream.health(), has) {
            (Health::Up | Health::Unknown, true) => Tier::UpWithModel,
            (Health::Up | Health::Unknown, false) => Tier::MayHaveIt,
            (Health::Down, true) => Tier::DownWithModel,
            (Health::Down, false) => Tier::Down,
            (Health::Loop, _) => Tier::Never,
        }
    }
}

impl Merit {
    /// Also gives how many equals of weight 1 it counts as.
    fn of(upstream: &Upstream, ask: &Ask<'_>) -> (Self, u32) {
        let is_down = upstream.health() == Health::Down;
        let (load, room) = upstream.load();
        let merit = Merit {
            tier: Tier::of(upstream, ask),
            is_ejected: ask.runs_model && upstream.is_ejected_for(ask.model),
            is_full: ask.runs_model && !upstream.has_free_slot(),
            is_cold: !ask.model.is_some_and(|model| upstream.is_warm(model)),
            // Among the healthy a single failed probe is no reason; among the others the least broken is the best guess.
            failures: if is_down { upstream.failures() } else { 0 },
            load,
        };
        (merit, room)
    }
}
