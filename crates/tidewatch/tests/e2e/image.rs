//! Images made of what this host has: busybox, a few copied programs, a few files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::lab;

/// The programs that `drills.c` is installed as: rules go by the name of a program.
const DRILL_NAMES: [&str; 5] = ["drills", "nginx", "ssh", "login", "apk"];

/// More names, as links: for rules that go by nothing else.
const DRILL_LINKS: [&str; 25] = [
    "kubectl",
    "buildah",
    "curl",
    "falco",
    "systemctl",
    "iptables",
    "setenforce",
    "journalctl",
    "perl",
    "php",
    "pkexec",
    "sudo",
    "lscpu",
    "hydra",
    "setcap",
    "nmap",
    "pspy64",
    "chisel",
    "tcpdump",
    "sniff",
    "dropbear",
    "traffmonetizer",
    "slowhttptest",
    "velero",
    "useradd",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const SHADOW: &str = "root:!:19000:0:99999:7:::\n";
/// A page for busybox httpd, and the line that has it hand such pages to the shell.
const CGI_PAGE: &str = "echo 'Content-Type: text/plain'; echo; id\n";
const HTTPD_CONF: &str = "*.sh:/bin/sh\n";

/// The image of most tests: busybox, the drills under `/usr/local/bin`, a page that is a shell script.
pub fn base() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let root = Root::new();
        let drills = compile("drills");
        root.copy(&compile("storms"), "usr/local/bin/storms");
        for name in DRILL_NAMES {
            root.copy(&drills, &format!("usr/local/bin/{name}"));
        }
        for name in DRILL_LINKS {
            root.link(&format!("usr/local/bin/{name}"), "/usr/local/bin/drills");
        }
        for (path, text) in [
            ("etc/kubernetes/pki/ca.key", "no key\n"),
            ("root/.bashrc", ""),
            ("www/uploads/.keep", ""),
            ("etc/pam.d/sshd", ""),
            ("lib/libc.so.6", ""),
            ("opt/.keep", ""),
        ] {
            root.write(path, text);
        }
        root.write("www/index.html", "hello\n");
        root.write("etc/httpd.conf", HTTPD_CONF);
        root.write("www/cgi-bin/page.sh", CGI_PAGE);
        root.make_executable("www/cgi-bin/page.sh");
        root.write("home/user/.ssh/id_rsa", "no key\n");
        root.write("run/secrets/kubernetes.io/serviceaccount/token", "no token\n");
        root.import()
    })
}

/// busybox with these programs of the host (and the libraries they need) and these files.
pub fn with_programs(programs: &[&str], files: &[(&str, &str)]) -> String {
    let root = Root::new();
    for program in programs {
        root.copy_with_libraries(program);
    }
    for (path, text) in files {
        root.write(path, text);
    }
    root.import()
}

/// Compiles a program of this folder.
fn compile(name: &str) -> PathBuf {
    let program = lab::scratch().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/e2e/{name}.c"));
    let made = Command::new("cc").args(["-O1", "-static", "-o"]).arg(&program).arg(source).status();
    assert!(made.expect("cc is there").success(), "cc did not compile {name}.c");
    program
}

/// A directory that becomes an image.
struct Root {
    dir: PathBuf,
}

impl Root {
    fn new() -> Self {
        let root = Self { dir: lab::scratch().join(lab::unique("root")) };
        for dir in ["bin", "etc", "root", "tmp", "var/log", "home/user/.ssh"] {
            fs::create_dir_all(root.dir.join(dir)).expect("the scratch directory is writable");
        }
        fs::set_permissions(root.dir.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("it is ours");
        root.copy(Path::new("/bin/busybox"), "bin/busybox");
        let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs").stdout;
        for applet in String::from_utf8_lossy(&applets).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.dir.join("bin").join(applet)).expect("each applet is listed once");
        }
        for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/shadow", SHADOW)] {
            root.write(path, text);
        }
        root
    }

    fn place(&self, path: &str) -> PathBuf {
        let place = self.dir.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("a file lies in a directory")).expect("the directory is ours");
        place
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.place(path), text).expect("the directory is ours");
    }

    fn copy(&self, from: &Path, to: &str) {
        fs::copy(from, self.place(to)).unwrap_or_else(|error| panic!("copy {}: {error}", from.display()));
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.place(path)).expect("the name is free");
    }

    fn make_executable(&self, path: &str) {
        fs::set_permissions(self.dir.join(path), fs::Permissions::from_mode(0o755)).expect("the file is ours");
    }

    /// Copies a program, its loader and its libraries to where they lie on the host.
    fn copy_with_libraries(&self, program: &str) {
        self.copy(Path::new(program), program);
        let listing = Command::new("ldd").arg(program).output().expect("ldd is there").stdout;
        let listing = String::from_utf8_lossy(&listing).into_owned();
        for path in listing.split_whitespace().filter(|word| word.starts_with('/')) {
            self.copy(Path::new(path), path);
        }
    }

    /// Makes the image and returns its name.
    fn import(&self) -> String {
        let name = lab::unique("image");
        let mut tar = Command::new("tar")
            .args(["--owner=0", "--group=0", "-c", "-C"])
            .arg(&self.dir)
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar is there");
        let label = format!("LABEL {}", lab::label());
        let imported = Command::new("docker")
            // A command of its own makes it the image of a pod's sandbox as well.
            .args(["import", "-c", &label, "-c", "CMD [\"/bin/sleep\", \"3600\"]", "-", &name])
            .stdin(tar.stdout.take().expect("its output is a pipe"))
            .output()
            .expect("docker is there");
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        tar.wait().expect("tar was started");
        name
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What is left goes with the scratch directory.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
