//! Falco's stock rules, unmodified: each fires on what it is about.
//!
//! Left out: "Debugfs Launched in Privileged Container", since `--privileged` needs more rights than a test host has.

use crate::container::Container;
use crate::daemon::stock_rules;
use crate::drill::{self, drills};
use crate::image;
use crate::network::Network;

drills! { stock_rules;
    directory_traversal: "Directory traversal monitored file read", [], ["cat", "/tmp/../tmp/../etc/passwd"];
    sensitive_file_untrusted: "Read sensitive file untrusted", [], ["cat", "/etc/shadow"];
    /// The program is called nginx, and reads the file when it is older than five seconds.
    sensitive_file_after_startup: "Read sensitive file trusted after startup", [],
        ["/usr/local/bin/nginx", "open-late", "/etc/shadow"];
    system_user_interactive: "System user interactive", ["--user", "nobody"], ["/usr/local/bin/login", "spawn", "/bin/id"];
    netcat_execution: "Netcat Remote Code Execution in Container", [],
        ["nc", "127.0.0.1", "4444", "-e", "/bin/true"];
    search_private_keys: "Search Private Keys or Passwords", [], ["grep", "-r", "BEGIN RSA PRIVATE", "/home"];
    find_private_keys: "Search Private Keys or Passwords", [], ["find", "/home", "-name", "id_rsa"];
    grep_aws_credentials: "Find AWS Credentials", [], ["grep", "-ri", "aws_secret_access_key", "/home"];
    find_aws_credentials: "Find AWS Credentials", [], ["find", "/home", "-path", "*/.aws/credentials"];
    clear_log: "Clear Log Activities", [], ["sh", "-c", "echo x >/var/log/auth.log; : >/var/log/auth.log"];
    remove_bulk_data: "Remove Bulk Data from Disk", [], ["shred", "/www/index.html"];
    symlink_over_sensitive: "Create Symlink Over Sensitive Files", [], ["ln", "-s", "/etc/shadow", "/tmp/notes"];
    hardlink_over_sensitive: "Create Hardlink Over Sensitive Files", [], ["ln", "/etc/shadow", "/etc/notes"];
    packet_socket: "Packet socket created in container", [], ["/usr/local/bin/drills", "packet"];
    kernel_module: "Linux Kernel Module Injection Detected", ["--cap-add", "SYS_MODULE"],
        ["/usr/local/bin/drills", "init-module"];
    release_agent: "Detect release_agent File Container Escapes", ["--cap-add", "SYS_ADMIN"],
        ["sh", "-c", "echo /tmp/x >/tmp/release_agent"];
    ptrace_attach: "PTRACE attached to process", [], ["/usr/local/bin/drills", "attach"];
    ptrace_traceme: "PTRACE anti-debug attempt", [], ["/usr/local/bin/drills", "traceme"];
    script_in_dev_shm: "Execution from /dev/shm", [], ["sh", "-c", "/dev/shm/x"];
    program_in_dev_shm: "Execution from /dev/shm", ["--tmpfs", "/dev/shm:rw,exec"],
        ["sh", "-c", "cp /bin/busybox /dev/shm/busybox; /dev/shm/busybox true"];
    drop_and_execute: "Drop and execute new binary in container", [],
        ["sh", "-c", "cp /bin/busybox /tmp/busybox; /tmp/busybox true"];
    /// Below a shell, since the rule excepts children of runc.
    fileless_execution: "Fileless execution via memfd_create", [],
        ["sh", "-c", "/usr/local/bin/drills memfd /bin/busybox true; true"];
}

#[test]
fn terminal_shell() {
    drill::terminal_shell(stock_rules(), "Terminal shell in container");
}

#[test]
fn shell_below_a_web_server() {
    drill::shell_below_web_server(stock_rules(), "Run shell untrusted");
}

#[test]
fn streams_redirected_to_the_network() {
    drill::reverse_shell(stock_rules(), "Redirect STDOUT/STDIN to Network Connection in Container");
}

#[test]
fn ssh_to_an_odd_port() {
    let Some(daemon) = stock_rules() else { return };
    let network = Network::public();
    let listener = network.listener("443");
    let client = Container::idle(image::base(), &["--network", &network.name]);
    client.exec(&["/usr/local/bin/ssh", "connect", &listener.address(), "443"]);
    daemon.alert("Disallowed SSH Connection Non Standard Port", &client.name);
}

/// The API server is where `KUBERNETES_SERVICE_HOST` says that it is.
#[test]
fn api_server_contacted() {
    let Some(daemon) = stock_rules() else { return };
    let network = Network::private();
    let api_server = network.listener("443");
    let address = api_server.address();
    let service = format!("KUBERNETES_SERVICE_HOST={address}");
    let client = Container::idle(image::base(), &["--network", &network.name, "--env", &service]);
    client.exec(&["/usr/local/bin/drills", "connect", &address, "443"]);
    daemon.alert("Contact K8S API Server From Container", &client.name);
}
