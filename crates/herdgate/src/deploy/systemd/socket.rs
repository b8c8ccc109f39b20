//! The socket unit, for ports that only root may bind, and for addresses that may come after the gate has started (a VPN's).
//! The gate then listens at none by itself, so all listeners are in it.

use crate::deploy::Ground;

/// All listeners of the settings.
pub(super) fn text(ground: &Ground<'_>) -> String {
    let listeners = ground.config().listen.iter().map(|listener| listener.address);
    let streams: String = listeners
        .map(|listen| {
            let address = listen.address;
            // A bare port is every address of IPv6 and IPv4, and IPv4 alone where there is no IPv6.
            if listen.is_everywhere() {
                format!("ListenStream={}\n", address.port())
            } else {
                format!("ListenStream={address}\n")
            }
        })
        .collect();
    format!(
        "[Unit]\n\
         Description=Ports of herdgate\n\n\
         [Socket]\n\
         # In the order of [[listen]] in the settings, which say what holds at each.\n\
         {streams}\
         BindIPv6Only=both\n\
         # An address that comes later than this unit is no reason to fail.\n\
         FreeBind=yes\n\
         Backlog=4096\n\n\
         [Install]\n\
         WantedBy=sockets.target\n"
    )
}
