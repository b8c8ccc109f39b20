//! Who holds a port: read from `/proc`, for the error that a taken port deserves. Empty where it cannot be known.

use std::fs;
use std::net::SocketAddr;

/// The process that listens on `address`' port, as `name (pid N)`.
pub(crate) fn of(address: SocketAddr) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, address.port()))
        .collect();
    let mut processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    processes.find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let sockets = fs::read_dir(entry.path().join("fd")).ok()?;
        let holds = sockets.filter_map(Result::ok).any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|to| {
                inodes.iter().any(|inode| to.as_os_str().to_str() == Some(&format!("socket:[{inode}]")))
            })
        });
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        holds.then(|| format!("{} (pid {pid})", name.trim()))
    })
}

/// Inodes of the sockets that listen on `port`: column 2 is `address:port` in hex, 4 the state (`0A`), 10 the inode.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let ends = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let listens = columns.get(1)?.ends_with(&ends) && *columns.get(3)? == "0A";
            let inode = columns.get(9)?;
            listens.then(|| (*inode).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = of(listener.local_addr().unwrap()).unwrap();
        assert!(holder.contains(&format!("(pid {})", std::process::id())), "{holder}");
    }

    #[test]
    fn only_listeners_of_the_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1EB4 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n\
            1: 0100007F:1EB4 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 4712 1\n\
            2: 0100007F:1EB5 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4713 1\n";
        assert_eq!(listening_inodes(table, 0x1EB4), ["4711"]);
    }
}
