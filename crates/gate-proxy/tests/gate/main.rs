//! The whole gate in memory: clients and upstreams are ends of pipes that the tests hold, the clock stands still until
//! everybody waits. (`cfg(test)` is what tells clippy that the code here is tests.)

#[cfg(test)]
mod auth;
#[cfg(test)]
mod broken;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod choice;
#[cfg(test)]
mod cli_access;
#[cfg(test)]
mod connection;
#[cfg(test)]
mod cors;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod ejection;
#[cfg(test)]
mod entrance;
#[cfg(test)]
mod extra;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod h2;
#[cfg(test)]
mod h2_cancel;
#[cfg(test)]
mod h2_windows;
#[cfg(test)]
mod hops;
#[cfg(test)]
mod house;
#[cfg(test)]
mod lease;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod listings;
#[cfg(test)]
mod manage;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod records;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod shown;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod store_watch;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod uploads;
#[cfg(test)]
mod web;
#[cfg(test)]
mod websockets;
#[cfg(test)]
mod wire;
