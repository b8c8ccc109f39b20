//! Prints the page `docs/errors.md`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(gate_wire::reference().as_bytes())
}
