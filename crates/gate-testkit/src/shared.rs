//! What all connections of one [`Ollama`](crate::Ollama) share: setup, orders, log. Locks are held for moments and never
//! across a wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::log::Log;
use crate::order::{Accept, Fault, Order};
use crate::script::Effect;
use crate::setup::{Model, Setup, canonical};

#[derive(Debug)]
pub(crate) struct Shared {
    setup: Mutex<Setup>,
    orders: Mutex<Vec<Order>>,
    accepts: Mutex<VecDeque<Accept>>,
    pub(crate) log: Log,
}

impl Shared {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            setup: Mutex::new(setup),
            orders: Mutex::default(),
            accepts: Mutex::default(),
            log: Log::new(),
        }
    }

    pub(crate) fn setup(&self) -> MutexGuard<'_, Setup> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn orders(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accepts(&self) -> MutexGuard<'_, VecDeque<Accept>> {
        self.accepts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first order that fits, one use of it spent.
    pub(crate) fn fault_for(&self, path: &str) -> Option<Fault> {
        let mut orders = self.orders();
        let place = orders.iter().position(|order| order.path.as_deref().is_none_or(|on| on == path))?;
        let order = &mut orders[place];
        let fault = order.fault.clone();
        if let Some(left) = &mut order.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                orders.remove(place);
            }
        }
        Some(fault)
    }

    pub(crate) fn happen(&self, effect: Effect) {
        let mut setup = self.setup();
        match effect {
            Effect::Load(name) => {
                if !setup.is_loaded(&name) {
                    setup.loaded.push(canonical(&name));
                }
            }
            Effect::Unload(name) => setup.loaded.retain(|one| *one != canonical(&name)),
            Effect::Add(name) => {
                if setup.find(&name).is_none() {
                    setup.models.push(Model::named(&canonical(&name)));
                    // A full disk is not what these tests are about.
                    let _kept = setup.kept_file(&name).map(|file| std::fs::write(file, ""));
                }
            }
            Effect::Remove(name) => {
                let name = canonical(&name);
                setup.models.retain(|model| canonical(&model.name) != name);
                setup.loaded.retain(|one| *one != name);
                let _gone = setup.kept_file(&name).map(std::fs::remove_file);
            }
        }
    }
}
