//! The built-in rules: each fires on what it is about.
//!
//! Left out: "Kernel Module Loaded in Container", which only a real module would raise.

use crate::container::Container;
use crate::daemon::default_pack;
use crate::drill::{self, drills};
use crate::image;
use crate::network::Network;

// Ways out.
drills! { default_pack;
    runtime_socket: "Runtime Socket Used in Container", ["-v", "/var/run/docker.sock:/var/run/docker.sock"],
        ["/usr/local/bin/drills", "unix", "/var/run/docker.sock"];
    files_through_proc: "Host Files Reached Through Proc", [], ["cat", "/proc/1/root/etc/passwd"];
    /// Opened for appending and closed again: the host's file stays as it is.
    host_file_through_mount: "Host System File Written Through Mount", ["-v", "/etc:/host/etc"],
        ["sh", "-c", ": >>/host/etc/passwd"];
    kernel_helper: "Kernel Helper Path Set in Container", [], ["sh", "-c", "echo /tmp/x >/tmp/release_agent"];
    nsenter: "Namespace of Another Process Entered in Container", [], ["nsenter", "-t", "1", "-n", "true"];
    refused_namespace: "Escape Step Refused in Container", [], ["nsenter", "-t", "1", "-n", "true"];
    refused_disk: "Escape Step Refused in Container", [], ["sh", "-c", "mknod /dev/sdz b 8 250; cat /dev/sdz"];
    mount: "Host File System Mounted in Container",
        ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"],
        ["sh", "-c", "mkdir /tmp/groups; mount -t cgroup2 none /tmp/groups; umount /tmp/groups"];
    /// The disk is /dev/null under another name.
    raw_disk: "Raw Disk or Memory Opened in Container", ["--device", "/dev/null:/dev/sdz"], ["cat", "/dev/sdz"];
    bpf_program: "BPF Program Loaded in Container",
        ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"], ["/usr/local/bin/drills", "bpf"];
    debugger: "Process Attached by Debugger in Container", [], ["/usr/local/bin/drills", "attach"];
    user_namespace: "User Namespace Created in Container",
        ["--security-opt", "seccomp=unconfined"], ["/usr/local/bin/drills", "user-namespace"];
    chroot: "Root Directory Changed in Container", [],
        ["sh", "-c", "mkdir -p /tmp/root/bin; cp /bin/busybox /tmp/root/bin; chroot /tmp/root /bin/busybox true"];
}

// Programs.
drills! { default_pack;
    new_program: "New Program Run in Container", [],
        ["sh", "-c", "mkdir /opt; cp /bin/busybox /opt/busybox; /opt/busybox true"];
    program_in_tmp: "Program Run From Scratch Directory", [],
        ["sh", "-c", "cp /bin/busybox /tmp/busybox; /tmp/busybox true"];
    program_in_dev_shm: "Program Run From Scratch Directory", ["--tmpfs", "/dev/shm:rw,exec"],
        ["sh", "-c", "cp /bin/busybox /dev/shm/busybox; /dev/shm/busybox true"];
    program_in_memory: "Program Run From Memory", [], ["/usr/local/bin/drills", "memfd", "/bin/busybox", "true"];
    /// The program is called apk and installs nothing.
    package: "Package Installed in Running Container", [], ["/usr/local/bin/apk", "add", "nmap"];
    download: "Program Downloaded in Container", [],
        ["sh", "-c", "httpd -p 80 -h /www; wget -O /tmp/stage2 http://127.0.0.1/index.html"];
    netcat: "Netcat Runs Program", [], ["nc", "127.0.0.1", "4444", "-e", "/bin/true"];
    miner_program: "Miner Program Started", [], ["true", "-o", "stratum+tcp://pool.invalid:3333"];
}

// Files.
drills! { default_pack;
    password_file: "Password File Read in Container", [], ["cat", "/etc/shadow"];
    private_key: "Credential File Read by Tool", [], ["cat", "/home/user/.ssh/id_rsa"];
    account_token: "Service Account Token Read by Tool", [],
        ["cat", "/run/secrets/kubernetes.io/serviceaccount/token"];
    environment: "Environment of Other Process Read", [], ["cat", "/proc/1/environ"];
    history_removed: "Traces Removed", [], ["sh", "-c", "echo ls >/root/.ash_history; rm /root/.ash_history"];
    log_emptied: "Traces Removed", [], ["sh", "-c", "echo x >/var/log/auth.log; : >/var/log/auth.log"];
    preload_file: "Library Preload Set Up", [], ["sh", "-c", "echo /tmp/x.so >/etc/ld.so.preload"];
    preload_variable: "Library Preload Set Up", [], ["env", "LD_PRELOAD=/tmp/x.so", "true"];
    setuid: "Setuid Bit Set in Container", [], ["sh", "-c", "cp /bin/busybox /tmp/busybox; chmod 4755 /tmp/busybox"];
    system_program: "System Program Changed in Container", [], ["cp", "/bin/busybox", "/usr/local/bin/ls"];
    cron_job: "Start-up Job Written in Container", [], ["sh", "-c", "mkdir /etc/cron.d; echo x >/etc/cron.d/job"];
    account_file: "Account File Changed in Container", [], ["sh", "-c", "echo 'x::0:0::/:/bin/sh' >>/etc/passwd"];
}

// Connections.
drills! { default_pack;
    /// There is no network: the attempt is what counts.
    listed_address: "Listed Address Contacted", [], ["/usr/local/bin/drills", "connect", "198.51.100.66", "443"];
}

#[test]
fn mining_protocol() {
    let Some(daemon) = default_pack() else { return };
    let network = Network::private();
    let pool = network.listener("3333");
    let miner = Container::idle(image::base(), &["--network", &network.name]);
    let hello = r#"{"id":1,"method":"mining.subscribe","params":[]}"#;
    miner.exec(&["/usr/local/bin/drills", "connect", &pool.address(), "3333", hello]);
    daemon.alert("Mining Protocol Spoken", &miner.name);
}

#[test]
fn reverse_shell() {
    drill::reverse_shell(default_pack(), "Shell Streams Tied to Connection");
}

#[test]
fn interactive_shell() {
    drill::terminal_shell(default_pack(), "Interactive Shell in Container");
}

#[test]
fn shell_below_a_web_server() {
    drill::shell_below_web_server(default_pack(), "Shell Started by Server Program");
}

/// An alert says what happened, why it matters and what to do, and who did it.
#[test]
fn an_alert_explains_itself() {
    let Some(daemon) = default_pack() else { return };
    let container = Container::idle(image::base(), &[]);
    container.exec(&["sh", "-c", "cat /etc/shadow; true"]);
    let alert = daemon.alert("Password File Read in Container", &container.name);
    let extra = &alert["tidewatch"];
    for key in ["message", "why", "advice"] {
        assert!(extra[key].as_str().is_some_and(|text| !text.is_empty()), "{key} is missing: {alert}");
    }
    assert_eq!(alert["output_fields"]["proc.pname"], "sh");
    assert_eq!(alert["output_fields"]["container.image.repository"], image::base());
    assert!(extra["lineage"].as_array().is_some_and(|lineage| !lineage.is_empty()), "{alert}");
}
