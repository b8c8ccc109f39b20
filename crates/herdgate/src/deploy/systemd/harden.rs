//! What a service may not do. `systemd-analyze security` rates the gate's unit 1.5 or better where it starts no program itself.

use super::{Shape, word};
use crate::deploy::Ground;

/// What holds for both units, whatever they do.
const ALWAYS: [&str; 20] = [
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateMounts=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "RemoveIPC=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    // Netlink: which addresses this machine has.
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
];

/// What is possible where nothing but the gate runs.
const ALONE: [&str; 6] = [
    "PrivateDevices=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "MemoryDenyWriteExecute=yes",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
];

/// Of the gate.
///
/// # Errors
/// Where a path cannot stand in a unit.
pub(super) fn service(ground: &Ground<'_>, shape: &Shape) -> anyhow::Result<String> {
    let mut lines: Vec<String> = ALWAYS.map(str::to_owned).into();
    if shape.binds_low {
        lines.push(
            "# metrics.address has a port below 1024, and no socket unit can hold that one.".to_owned(),
        );
        lines.push("AmbientCapabilities=CAP_NET_BIND_SERVICE".to_owned());
        lines.push("CapabilityBoundingSet=CAP_NET_BIND_SERVICE".to_owned());
    } else {
        lines.push("CapabilityBoundingSet=".to_owned());
    }
    if shape.starts_local {
        lines.extend(local(ground)?);
    } else {
        if !shape.binds_low {
            // In a user namespace of its own no capability counts outside.
            lines.push("PrivateUsers=yes".to_owned());
        }
        lines.extend(ALONE.map(str::to_owned));
    }
    Ok(lines.join("\n") + "\n")
}

/// Of the backup.
pub(super) fn backup() -> String {
    let own = ["CapabilityBoundingSet=", "PrivateUsers=yes"];
    ALWAYS.iter().chain(&own).chain(&ALONE).map(|line| format!("{line}\n")).collect()
}

/// What is lifted for an Ollama or an engine that the gate starts: it is in the same unit.
fn local(ground: &Ground<'_>) -> anyhow::Result<Vec<String>> {
    let mut lines: Vec<String> = [
        "# [local]: the Ollama or engine that the gate starts is in this unit. For it these are not here:",
        "#   PrivateDevices, PrivateUsers   it needs the GPU's devices, and the groups that may open them",
        "#   MemoryDenyWriteExecute         CUDA and ROCm make code at run time",
        "#   ProtectProc, ProcSubset        it looks at /proc/meminfo and /proc/cpuinfo",
        "#   SystemCallFilter=~@resources   it binds threads to cores and memory to NUMA nodes",
        "# Without [local], and an ollama.service beside it, the gate has all of them.",
        "DevicePolicy=closed",
        "DeviceAllow=char-drm rw",
        "DeviceAllow=char-kfd rw",
        "DeviceAllow=char-nvidia-frontend rw",
        "DeviceAllow=char-nvidia rw",
        "DeviceAllow=char-nvidiactl rw",
        "DeviceAllow=char-nvidia-uvm rw",
        "DeviceAllow=char-nvidia-caps rw",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
        "# Its own files, ~/.ollama, lie in the data directory.",
    ]
    .map(str::to_owned)
    .into();
    lines
        .push(format!("Environment=HOME={}", super::astray::data(ground, &mut Vec::new(), &mut Vec::new())?));
    if let Some(models) = &ground.config().local.models_dir {
        let models = word("local.models_dir", &ground.absolute(models))?;
        lines.push(format!("# It must be there, and herdgate's own: install -d -o herdgate {models}"));
        lines.push(format!("ReadWritePaths={models}"));
    }
    Ok(lines)
}
