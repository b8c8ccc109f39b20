//! Which bytes may stand where (RFC 9110 section 5.6.2 and 5.5), as tables and small checks over slices.
//!
//! Reading and writing share these, so nothing can be written that would not be read back.

/// True for the bytes of a token: `!#$%&'*+-.^_`|~`, digits, letters.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// True for a non-empty token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// True where every byte may stand in a field value: tab, visible ASCII, space and the bytes above ASCII.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    // Without an early end, so that the compiler looks at many bytes at once: values are sound nearly always.
    bytes.iter().fold(true, |sound, &byte| sound & ((byte == b'\t') | ((byte >= b' ') & (byte != 0x7f))))
}

/// True for a non-empty request target: visible ASCII only, and no fragment, which some recipients cut off.
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().fold(true, |sound, &byte| sound & matches!(byte, b'!'..=b'~') & (byte != b'#'))
}

/// Without the spaces and tabs at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};
