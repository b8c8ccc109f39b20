//! What tries to get past the gate, and what must get through it: one row each.
//!
//! A refused row is answered with its documented status and code, and no upstream is even connected to. A row that passes
//! arrives at the upstream with its body byte for byte and the path of the table, and the answer comes back byte for byte.

#[cfg(test)]
mod bodies;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod headers;
#[cfg(test)]
#[path = "../gate/house.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod house;
#[cfg(test)]
mod names;
#[cfg(test)]
mod passing;
#[cfg(test)]
mod paths;
#[cfg(test)]
#[path = "../gate/records.rs"]
mod records;
#[cfg(test)]
mod rows;
#[cfg(test)]
#[path = "../gate/wire.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod wire;
