//! The suite from outside: the built `herdgate`, as somebody uses it, in front of the test kit, of the engine and of a
//! real Ollama. One module per theme; what they share is in `harness`.
//!
//! `HERDGATE_TEST_ENGINE` names the engine's binary (else `target/release/herdgate-engine` of the workspace), and
//! `HERDGATE_TEST_OLLAMA` that of a real Ollama. What is not there is left out with a word about it;
//! `HERDGATE_TEST_REQUIRE=1` turns leaving out into failing, for all but the real Ollama.

#[cfg(test)]
mod acme;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod callers;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod client_settings;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod deploy_firewall;
#[cfg(test)]
mod dialects;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod door;
#[cfg(test)]
mod extra_routes;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod fronts;
#[cfg(test)]
mod guides;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod hangup;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod health;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod image;
#[cfg(test)]
mod instead_of;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod life;
#[cfg(test)]
mod listen;
#[cfg(test)]
mod local;
#[cfg(test)]
mod managing;
#[cfg(test)]
mod models;
#[cfg(test)]
mod pulling;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod siege;
#[cfg(test)]
mod stack;
#[cfg(test)]
mod start;
#[cfg(test)]
mod store;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod testssl;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod unkeyed;
#[cfg(test)]
mod upstreams;
