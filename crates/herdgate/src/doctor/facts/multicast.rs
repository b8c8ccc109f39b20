//! Asks the network itself for a name that ends in `.local` (RFC 6762): where programs of this machine know none, a person who is told
//! the address can give them one.
//!
//! One question on each network of this machine, heard by who has the name; what comes back is read as strictly as an address
//! needs, and believed only as a proposal.

use crate::together::together;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Who has the name answers within half a second (RFC 6762, section 6).
const TIME: Duration = Duration::from_millis(1500);
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);
/// Bytes of an answer (section 17), records in it, and networks of this machine.
const MOST: usize = 9000;
const RECORDS: u16 = 64;
const NETWORKS: usize = 16;
const LONGEST_LABEL: usize = 63;
/// Type A, class IN (RFC 1035, section 3.2).
const A_IN: [u8; 4] = [0, 1, 0, 1];

/// The address of this name, where somebody says that he has it.
pub(super) async fn ask(host: &str) -> Option<Ipv4Addr> {
    let question = question(host)?;
    let networks = if_addrs::get_if_addrs().unwrap_or_default();
    let own = networks.iter().filter_map(|network| match network.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    });
    let asked = own.take(NETWORKS).map(|own| timeout(TIME, on(own, &question, host))).collect();
    together(asked).await.into_iter().find_map(|heard| heard.ok().flatten())
}

async fn on(own: Ipv4Addr, question: &[u8], host: &str) -> Option<Ipv4Addr> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).ok()?;
    socket.set_multicast_if_v4(&own).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.bind(&SocketAddr::from((own, 0)).into()).ok()?;
    let socket = UdpSocket::from_std(socket.into()).ok()?;
    socket.send_to(question, GROUP).await.ok()?;
    let mut buffer = vec![0; MOST];
    loop {
        let (length, _from) = socket.recv_from(&mut buffer).await.ok()?;
        if let Some(address) = buffer.get(..length).and_then(|answer| address(answer, host)) {
            return Some(address);
        }
    }
}

/// A question for its address.
fn question(host: &str) -> Option<Vec<u8>> {
    let mut question = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return None;
        }
        question.push(length);
        question.extend_from_slice(label.as_bytes());
    }
    question.push(0);
    question.extend_from_slice(&A_IN);
    Some(question)
}

/// The address that an answer has for this name.
fn address(answer: &[u8], host: &str) -> Option<Ipv4Addr> {
    let number = |place: usize| Some(u16::from_be_bytes([*answer.get(place)?, *answer.get(place + 1)?]));
    let (questions, records) = (number(4)?, number(6)?);
    let mut place = 12;
    for _ in 0..questions.min(RECORDS) {
        place = name(answer, place)?.1 + 4;
    }
    for _ in 0..records.min(RECORDS) {
        let (whose, after) = name(answer, place)?;
        // The highest bit of the class says that old answers are no longer true.
        let is_address = number(after)? == 1 && number(after + 2)? & 0x7fff == 1;
        let (from, length) = (after + 10, usize::from(number(after + 8)?));
        let data = answer.get(from..from + length)?;
        if is_address && whose.eq_ignore_ascii_case(host.trim_end_matches('.')) {
            return Some(<[u8; 4]>::try_from(data).ok()?.into());
        }
        place = from + length;
    }
    None
}

/// A name, and the place behind it. Parts of it may stand further in front (RFC 1035, section 4.1.4), each before the last.
fn name(answer: &[u8], begin: usize) -> Option<(String, usize)> {
    let (mut text, mut place, mut after) = (String::new(), begin, None);
    loop {
        let length = *answer.get(place)?;
        match length {
            0 => return Some((text, after.unwrap_or(place + 1))),
            1..=63 => {
                let label = answer.get(place + 1..place + 1 + usize::from(length))?;
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(std::str::from_utf8(label).ok()?);
                place += 1 + usize::from(length);
            }
            192.. => {
                let to = usize::from(length & 0x3f) << 8 | usize::from(*answer.get(place + 1)?);
                after.get_or_insert(place + 2);
                // Only back, so that it ends.
                place = Some(to).filter(|to| *to < place)?;
            }
            _ => return None,
        }
        if text.len() > 255 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(whose: &[u8], data: &[u8]) -> Vec<u8> {
        let mut answer = vec![0, 0, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        answer.extend_from_slice(b"\x04cuda\x05local\x00\x00\x01\x00\x01");
        answer.extend_from_slice(whose);
        answer.extend_from_slice(&[0, 1, 0x80, 1, 0, 0, 0, 120, 0, u8::try_from(data.len()).unwrap()]);
        answer.extend_from_slice(data);
        answer
    }

    #[test]
    fn an_answer_has_an_address_or_none() {
        let whole = answer(b"\x04CUDA\x05local\x00", &[192, 168, 1, 100]);
        assert_eq!(address(&whole, "cuda.local"), Some(Ipv4Addr::new(192, 168, 1, 100)));
        let short = answer(&[192, 12], &[10, 0, 0, 2]);
        assert_eq!(address(&short, "cuda.local."), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(address(&short, "other.local"), None);
        for wrong in
            [answer(&[192, 28], &[10, 0, 0, 2]), answer(&[192, 12], &[10, 0, 0]), answer(&[0x80], &[0; 4])]
        {
            assert_eq!(address(&wrong, "cuda.local"), None);
        }
        for cut in 0..short.len() {
            assert_eq!(address(&short[..cut], "cuda.local"), None, "{cut}");
        }
    }

    #[test]
    fn only_names_are_asked_for() {
        let asked = question("cuda.local").unwrap();
        assert_eq!(&asked[12..], b"\x04cuda\x05local\x00\x00\x01\x00\x01");
        assert_eq!((question("a..local"), question(&format!("{}.local", "a".repeat(64)))), (None, None));
    }
}
