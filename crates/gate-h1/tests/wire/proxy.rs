//! What must hold for any bytes whatever where a PROXY header may stand: read by a rule of its own, and in every cut.

use gate_h1::proxy::{FIXED, MOST, read, rest};
use std::net::IpAddr;

/// Reads the bytes as the beginning of a connection.
pub(crate) fn header(bytes: &[u8]) {
    let Some((fixed, behind)) = bytes.split_first_chunk::<FIXED>() else { return };
    let Some(length) = rest(fixed) else {
        let is_one = fixed.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && fixed[12] & 0xfe == 0x20;
        assert!(!is_one || usize::from(fixed[14]) << 8 | usize::from(fixed[15]) > MOST, "{fixed:?}");
        return;
    };
    assert!(length <= MOST && length == usize::from(fixed[14]) * 256 + usize::from(fixed[15]));
    let Some(whole) = behind.get(..length) else { return };
    let told = read(fixed, whole);
    let expected: Option<IpAddr> = match (fixed[12], fixed[13]) {
        (0x21, 0x11) => whole.first_chunk::<4>().map(|ip| IpAddr::from(*ip)),
        (0x21, 0x21) => whole.first_chunk::<16>().map(|ip| IpAddr::from(*ip)),
        _ => {
            let told = told.expect("a header without an address is whole whatever it has");
            assert!(told.source.is_none() && !told.is_tls);
            return;
        }
    };
    if let Some(told) = told {
        let source = told.source.expect("TCP over IP has an address");
        assert_eq!(Some(source), expected.map(|ip| ip.to_canonical()));
        assert!(!told.is_tls || whole.contains(&0x20), "nothing speaks of TLS");
    }
    // Cut short it may name nobody; it never names somebody else.
    for cut in 0..length {
        if let Some(part) = read(fixed, &whole[..cut]) {
            assert_eq!(part.source, expected.map(|ip| ip.to_canonical()), "{cut}");
        }
    }
}
