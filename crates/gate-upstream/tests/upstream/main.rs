//! The upstream client against servers that say exactly what a test orders: in memory where the cut of the bytes
//! matters, over loopback sockets where the system's behaviour does.

#[cfg(test)]
mod access;
#[cfg(test)]
mod ahead;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod played;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod source;
#[cfg(test)]
mod streamed;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod uploads;
