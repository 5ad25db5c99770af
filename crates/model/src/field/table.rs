//! The rows.

use super::{ArgRule, Field, Multi, container, event, fd, process};
use crate::value::FieldType;

macro_rules! fields {
    (@get -) => { None };
    (@get $get:path) => { Some($get) };
    (@arg) => { ArgRule::None };
    (@arg index) => { ArgRule::OptionalIndex };
    (@arg optional) => { ArgRule::Optional };
    (@arg required) => { ArgRule::Required };
    (@multi) => { Multi::Single };
    (@multi some) => { Multi::Some };
    (@multi either) => { Multi::EitherEnd };
    ($(
        [$scope:ident]
        $($name:literal $(($arg:ident))? $(<$multi:ident>)? $ty:ident $get:tt $(:: $function:ident)? $doc:literal;)*
    )*) => {
        /// Every field that a rule may name.
        pub static FIELDS: &[Field] = &[$($(Field {
            name: $name,
            ty: FieldType::$ty,
            arg: fields!(@arg $($arg)?),
            multi: fields!(@multi $($multi)?),
            get: fields!(@getter $get $(:: $function)?),
            per_process: fields!(@scope $scope),
            doc: $doc,
        },)*)*];
    };
    (@getter - ) => { None };
    (@getter $module:ident :: $function:ident) => { Some($module::$function) };
    (@scope event) => { false };
    (@scope process) => { true };
}

fields! {
    [event]
    "evt.num" Uint event::num "Number of the event since the agent's start, from 1.";
    "evt.time" Time event::time "Wall-clock time of the event.";
    "evt.time.s" Time event::time "The same; printed to the second in Falco.";
    "evt.time.iso8601" Time event::time "The same in ISO 8601.";
    "evt.datetime" Time event::time "The same with the date.";
    "evt.datetime.s" Time event::time "The same with the date; printed to the second in Falco.";
    "evt.rawtime" Int event::time "Nanoseconds since the epoch.";
    "evt.rawtime.s" Int event::time_s "Whole seconds since the epoch.";
    "evt.rawtime.ns" Int event::time_ns "Nanoseconds within the second.";
    "evt.type" Text event::kind "Name of the system call or event, such as `execve`.";
    "syscall.type" Text event::kind "The same as evt.type.";
    "evt.source" Text event::source "Always `syscall`.";
    "evt.is_async" Bool event::is_async "Always false.";
    "evt.dir" Text event::dir "Always `<`: only the exit of a call is seen. Deprecated.";
    "evt.category" Text event::category "Class of the event, such as `file` or `net`.";
    "evt.cpu" Int event::cpu "CPU that the event came from.";
    "evt.args" Text event::args "All parameters as `name=value`.";
    "evt.info" Text event::args "The same as evt.args.";
    "evt.arg" (required) Text event::arg "Text of one parameter: `evt.arg.flags`, `evt.arg[0]`. Paths are the caller's text made absolute.";
    "evt.rawarg" (required) Int event::raw_arg "Number of one parameter: `evt.rawarg.flags`.";
    "evt.res" Text event::res "`SUCCESS` or the name of the error, such as `EPERM`.";
    "evt.rawres" Int event::raw_res "Number that the call returned.";
    "evt.failed" Bool event::failed "The call returned an error.";
    "evt.is_io" Bool event::is_io "The event sends data.";
    "evt.is_io_write" Bool event::is_io "The event sends data.";
    "evt.is_io_read" Bool event::is_io_read "Always false: reads are not watched.";
    "evt.io_dir" Text event::io_dir "`write` if the event sends data.";
    "evt.buffer" Bytes event::buffer "First bytes (at most 256) sent on a new connection or in a datagram.";
    "evt.buflen" Uint event::buflen "Bytes asked to be sent.";
    "evt.is_open_read" Bool event::is_open_read "An open with read access.";
    "evt.is_open_write" Bool event::is_open_write "An open with write access.";
    "evt.is_open_create" Bool event::is_open_create "An open that made the file.";
    "evt.is_open_exec" Bool event::is_open_exec "An open that made a file with an execute bit.";
    "evt.hostname" Text - "Name of the host.";
    "evt.abspath" (required) Text - "Absolute path of a parameter.";
    "evt.type.is" (required) Uint - "1 if the event has this number.";
    "evt.reltime" Duration - "Time since the first event.";
    "evt.reltime.s" Duration - "Seconds of the time since the first event.";
    "evt.reltime.ns" Duration - "Nanoseconds of the time since the first event.";
    "evt.deltatime" Duration - "Time since the previous event.";
    "evt.deltatime.s" Duration - "Seconds of the time since the previous event.";
    "evt.deltatime.ns" Duration - "Nanoseconds of the time since the previous event.";
    "evt.latency" Duration - "Deprecated in Falco: there are no enter events.";
    "evt.latency.s" Duration - "Deprecated in Falco.";
    "evt.latency.ns" Duration - "Deprecated in Falco.";
    "evt.wait_latency" Duration - "Deprecated in Falco.";
    "evt.is_wait" Bool - "The call waits.";
    "evt.is_syslog" Bool - "The event writes to the system log.";
    "evt.asynctype" Text - "Type of an asynchronous event.";
    "evt.pluginname" Text - "Name of the plugin.";
    "evt.plugininfo" Text - "Summary by the plugin.";
    "evt.count" Uint - "Always 1.";
    "evt.count.error" Uint - "1 if the call failed.";
    "evt.count.error.file" Uint - "1 if a call on files failed.";
    "evt.count.error.net" Uint - "1 if a call on the network failed.";
    "evt.count.error.memory" Uint - "1 if a call on memory failed.";
    "evt.count.error.other" Uint - "1 if another call failed.";
    "evt.count.exit" Uint - "Always 1.";
    "util.cnt" Uint - "A counter.";

    [process]
    "proc.name" Text process::name "Kernel's name of the thread that acted (comm), at most 15 bytes.";
    "proc.pname" Text process::pname "Name of the parent; null if it is not known.";
    "proc.aname" (index) <some> Text process::aname "Name of an ancestor: [1] the parent, [2] its parent; without index: any.";
    "proc.exe" Text process::proc_exe "argv[0] as the process wrote it.";
    "proc.pexe" Text process::pexe "argv[0] of the parent.";
    "proc.aexe" (index) <some> Text process::aexe "argv[0] of an ancestor.";
    "proc.exepath" Path process::proc_exepath "Path of the executable, from the kernel's file object.";
    "proc.pexepath" Path process::pexepath "Path of the parent's executable.";
    "proc.aexepath" (index) <some> Path process::aexepath "Path of an ancestor's executable.";
    "proc.cmdline" Text process::proc_cmdline "Name and arguments, joined by blanks (at most 4096 bytes of arguments).";
    "proc.pcmdline" Text process::pcmdline "Command line of the parent.";
    "proc.acmdline" (index) <some> Text process::acmdline "Command line of an ancestor.";
    "proc.args" (index) Text process::args "Arguments joined by blanks; [0] is the first behind argv[0].";
    "proc.aargs" (index) Text process::aargs "Arguments of an ancestor.";
    "proc.cmdnargs" Uint process::cmd_n_args "Number of arguments behind argv[0].";
    "proc.cmdlenargs" Uint process::cmd_len_args "Bytes in all arguments behind argv[0].";
    "proc.exeline" Text process::exeline "argv, joined by blanks.";
    "proc.env" (optional) Text process::env "Environment variables that matter, joined by blanks; [NAME]: one of them, empty if absent.";
    "proc.aenv" (optional) Text - "Environment of an ancestor.";
    "proc.cwd" Path process::cwd "Working directory, with a slash at its end.";
    "proc.tty" Uint process::tty "Device number of the controlling terminal, 0 if none.";
    "proc.pid" Int process::pid "Process number.";
    "proc.ppid" Int process::ppid "Number of the parent.";
    "proc.apid" (index) <some> Int process::apid "Number of an ancestor.";
    "proc.vpid" Int process::vpid "Process number inside its pid namespace.";
    "proc.pvpid" Int process::pvpid "Parent's number inside its pid namespace.";
    "proc.loginshellid" Int - "Number of the oldest shell among the ancestors.";
    "proc.sid" Int process::sid "Session id.";
    "proc.pgid" Int process::pgid "Process group.";
    "proc.vpgid" Int process::vpgid "Process group inside its pid namespace.";
    "proc.is_sid_leader" Bool process::is_sid_leader "Leads its session.";
    "proc.is_pgid_leader" Bool process::is_pgid_leader "Leads its process group.";
    "proc.is_vpgid_leader" Bool process::is_vpgid_leader "Leads its process group, inside its pid namespace.";
    "proc.is_exe_writable" Bool process::is_exe_writable "The user may write the executable.";
    "proc.is_exe_upper_layer" Bool process::is_exe_upper_layer "The executable was written in this container: it is not part of the image.";
    "proc.is_exe_lower_layer" Bool process::is_exe_lower_layer "The executable is part of the image.";
    "proc.is_exe_from_memfd" Bool process::is_exe_from_memfd "The executable is an anonymous file in memory.";
    "proc.exe_ino" Int process::exe_ino "Inode of the executable.";
    "proc.exe_ino.ctime" Time process::exe_ctime "Change time of the executable.";
    "proc.exe_ino.mtime" Time process::exe_mtime "Modification time of the executable.";
    "proc.exe_ino.ctime_duration_pidns_start" Duration - "From the executable's last change to the start of the pid namespace.";
    "proc.pidns_init_start_ts" Time - "Start of the pid namespace.";
    "thread.cap_permitted" Text process::cap_permitted "Permitted capabilities, joined by blanks.";
    "thread.cap_inheritable" Text process::cap_inheritable "Inheritable capabilities, joined by blanks.";
    "thread.cap_effective" Text process::cap_effective "Effective capabilities, joined by blanks.";
    "proc.fdopencount" Uint - "Open descriptors.";
    "proc.fdlimit" Int - "Limit of open descriptors.";
    "proc.fdusage" Uint - "Share of the descriptor limit in use.";
    "proc.vmsize" Uint - "Virtual memory, KiB.";
    "proc.vmrss" Uint - "Resident memory, KiB.";
    "proc.vmswap" Uint - "Swapped memory, KiB.";
    "thread.pfmajor" Uint - "Major page faults.";
    "thread.pfminor" Uint - "Minor page faults.";
    "thread.exectime" Duration - "CPU time of the last slice.";
    "thread.totexectime" Duration - "CPU time.";
    "thread.cgroups" Text - "All cgroups.";
    "thread.cgroup" (required) Text - "The cgroup of one controller.";
    "thread.cpu" Uint - "CPU share.";
    "thread.cpu.user" Uint - "CPU share in user mode.";
    "thread.cpu.system" Uint - "CPU share in the kernel.";
    "thread.vmsize" Uint - "Virtual memory, KiB.";
    "thread.vmrss" Uint - "Resident memory, KiB.";
    "proc.nthreads" Uint - "Threads.";
    "proc.nchilds" Uint - "Children.";
    "proc.stdin.type" Text - "Type of standard input.";
    "proc.stdout.type" Text - "Type of standard output.";
    "proc.stderr.type" Text - "Type of standard error.";
    "proc.stdin.name" Text - "Name of standard input.";
    "proc.stdout.name" Text - "Name of standard output.";
    "proc.stderr.name" Text - "Name of standard error.";
    "user.uid" Uint process::uid "Effective user.";
    "user.name" Text process::user_name "Name of the effective user in the container's own user list; the text `<NA>` if it has none.";
    "user.homedir" Path process::user_home "Home directory of the effective user, or `<NA>`.";
    "user.shell" Text process::user_shell "Login shell of the effective user, or `<NA>`.";
    "user.loginuid" Int process::login_uid "Audit login user, -1 if none.";
    "user.loginname" Text process::login_name "Name of the audit login user, or `<NA>`.";
    "group.gid" Uint process::gid "Effective group.";
    "group.name" Text process::group_name "Name of the effective group, or `<NA>`.";

    [event]
    "proc.sname" Text process::sname "Name of the session leader.";
    "proc.sid.exe" Text process::sid_exe "argv[0] of the session leader.";
    "proc.sid.exepath" Path process::sid_exepath "Executable of the session leader.";
    "proc.pgid.name" Text process::pgid_name "Name of the process group's leader.";
    "proc.pgid.exe" Text process::pgid_exe "argv[0] of the process group's leader.";
    "proc.pgid.exepath" Path process::pgid_exepath "Executable of the process group's leader.";
    "proc.vpgid.name" Text process::pgid_name "Name of the process group's leader.";
    "proc.vpgid.exe" Text process::pgid_exe "argv[0] of the process group's leader.";
    "proc.vpgid.exepath" Path process::pgid_exepath "Executable of the process group's leader.";
    "proc.pid.ts" Time process::start_time "Time of the process's start.";
    "proc.ppid.ts" Time process::pstart_time "Time of the parent's start.";
    "proc.exe_ino.ctime_duration_proc_start" Duration process::exe_ctime_before_start "From the executable's last change to the process's start.";
    "proc.duration" Duration process::duration "Age of the process.";
    "proc.ppid.duration" Duration process::pduration "Age of the parent.";
    "thread.tid" Int process::tid "Number of the thread that acted.";
    "thread.ismain" Bool process::is_main_thread "The main thread acted.";
    "thread.vtid" Int - "Number of the thread inside its pid namespace.";

    [event]
    "fd.num" Int fd::num "Descriptor; -1 for a failed open.";
    "fd.type" Text fd::type_name "`file`, `directory`, `ipv4`, `ipv6`, `unix`, `pipe`, `memfd`.";
    "fd.typechar" Text fd::type_char "The type as one letter: f d 4 6 u p m.";
    "fd.name" Path fd::name "Path (from the kernel's file object; for failed opens from directory and argument) or `ip:port->ip:port`.";
    "fd.nameraw" Path fd::name_raw "Path as the caller wrote it.";
    "fd.directory" Path fd::directory "Directory part of an opened path.";
    "fd.filename" Text fd::filename "Last component of an opened file's path.";
    "fd.ip" <either> Ip fd::any_ip "Address of either end.";
    "fd.cip" Ip fd::client_ip "Address of the client.";
    "fd.sip" Ip fd::server_ip "Address of the server.";
    "fd.lip" Ip fd::local_ip "Local address.";
    "fd.rip" Ip fd::remote_ip "Remote address.";
    "fd.port" <either> Port fd::any_port "Port of either end.";
    "fd.cport" Port fd::client_port "Port of the client.";
    "fd.sport" Port fd::server_port "Port of the server.";
    "fd.lport" Port fd::local_port "Local port.";
    "fd.rport" Port fd::remote_port "Remote port.";
    "fd.net" <either> Net fd::any_ip "Network of either end.";
    "fd.cnet" Net fd::client_ip "Network of the client.";
    "fd.snet" Net fd::server_ip "Network of the server.";
    "fd.lnet" Net fd::local_ip "Network of the local end.";
    "fd.rnet" Net fd::remote_ip "Network of the remote end.";
    "fd.l4proto" Text fd::l4proto "`tcp`, `udp`, `icmp`, `raw`, or the text `<NA>`.";
    "fd.sockfamily" Text fd::family "`ip` or `unix`.";
    "fd.is_server" Bool fd::is_server "The process is the server of the connection.";
    "fd.connected" Bool fd::connected "The socket has a peer.";
    "fd.name_changed" Bool fd::name_changed "The event changed the peer.";
    "fd.cip.name" Text fd::client_ip_name "Name of the client's address, known without a resolver.";
    "fd.sip.name" Text fd::server_ip_name "Name of the server's address, known without a resolver (today: the API server, from KUBERNETES_SERVICE_HOST).";
    "fd.lip.name" Text fd::local_ip_name "Name of the local address, known without a resolver.";
    "fd.rip.name" Text fd::remote_ip_name "Name of the remote address, known without a resolver.";
    "fd.dev" Int fd::dev "Device of an opened file.";
    "fd.dev.major" Int fd::dev_major "Major number of that device.";
    "fd.dev.minor" Int fd::dev_minor "Minor number of that device.";
    "fd.ino" Int fd::ino "Inode of an opened file.";
    "fd.is_upper_layer" Bool fd::upper_layer "The file was written in this container.";
    "fd.is_lower_layer" Bool fd::lower_layer "The file is part of the image.";
    "fd.uid" Text - "Process number and descriptor.";
    "fd.containername" Text - "Container id and name.";
    "fd.containerdirectory" Text - "Container id and directory.";
    "fd.proto" <either> Text - "Service name of either port.";
    "fd.cproto" Text - "Service name of the client's port.";
    "fd.sproto" Text - "Service name of the server's port.";
    "fd.lproto" Text - "Service name of the local port.";
    "fd.rproto" Text - "Service name of the remote port.";
    "fd.types" (optional) TextList - "Types of all descriptors of the event.";
    "fs.path.name" Path fd::fs_path "Path that the call is about.";
    "fs.path.nameraw" Path fd::fs_path_raw "The same as the caller wrote it.";
    "fs.path.source" Path fd::fs_source "Old path of a rename or link, target of a symbolic link, source of a mount.";
    "fs.path.sourceraw" Path fd::fs_source_raw "The same as the caller wrote it.";
    "fs.path.target" Path fd::fs_target "New path of a rename or link, path of a symbolic link or mount.";
    "fs.path.targetraw" Path fd::fs_target_raw "The same as the caller wrote it.";
    "fdlist.nums" Text - "Descriptors of a poll.";
    "fdlist.names" Text - "Names of a poll's descriptors.";
    "fdlist.cips" Text - "Client addresses of a poll's descriptors.";
    "fdlist.sips" Text - "Server addresses of a poll's descriptors.";
    "fdlist.cports" Text - "Client ports of a poll's descriptors.";
    "fdlist.sports" Text - "Server ports of a poll's descriptors.";

    [process]
    "container.id" Text container::container_id "First twelve digits of the container's id, or `host`.";
    "container.full_id" Text container::container_full_id "The whole id, or `host`.";
    "container.name" Text container::container_name "Name of the container, or `host`.";
    "container.type" Text container::container_type "Runtime, or `host`.";
    "container.image" Text container::container_image "Image as the user named it.";
    "container.image.id" Text container::container_image_id "Id of the image.";
    "container.image.repository" Text container::container_repository "Image without tag and digest.";
    "container.image.tag" Text container::container_tag "Tag of the image.";
    "container.image.digest" Text container::container_digest "Digest of the image.";
    "container.privileged" Bool container::container_privileged "The container runs privileged.";
    "container.mounts" Text container::container_mounts "All mounts as `source:dest:mode:rdwr:propagation`.";
    "container.mount" (required) Text - "One mount.";
    "container.mount.source" (required) Text container::mount_source "Source of mount [n], or of the mount at [PATH].";
    "container.mount.dest" (required) Text container::mount_dest "Destination of mount [n], or of the mount from [PATH].";
    "container.mount.mode" (required) Text container::mount_mode "Mode of a mount.";
    "container.mount.rdwr" (required) Text container::mount_rdwr "`true` if a mount is writable.";
    "container.mount.propagation" (required) Text - "Propagation of a mount.";
    "container.start_ts" Time container::container_start "Start of the container.";
    "container.ip" Text container::container_ip "Address on its first network.";
    "container.host_pid" Bool container::container_host_pid "Shares the host's pid namespace.";
    "container.host_network" Bool container::container_host_network "Shares the host's network.";
    "container.host_ipc" Bool container::container_host_ipc "Shares the host's IPC namespace.";
    "container.label" (required) Text container::container_label "One label: `container.label[com.docker.compose.service]`.";
    "container.labels" Text container::container_labels "All labels.";
    "container.cni.json" Text - "Answer of the network plugin.";
    "container.healthcheck" Text - "Health check.";
    "container.liveness_probe" Text - "Liveness probe.";
    "container.readiness_probe" Text - "Readiness probe.";
    "proc.is_container_healthcheck" Bool - "The process is the health check.";
    "proc.is_container_liveness_probe" Bool - "The process is the liveness probe.";
    "proc.is_container_readiness_probe" Bool - "The process is the readiness probe.";
    "k8s.pod.name" Text container::pod_name "Name of the pod, from the runtime's labels.";
    "k8s.pod.uid" Text container::pod_uid "Uid of the pod, from the runtime's labels.";
    "k8s.ns.name" Text container::pod_namespace "Namespace of the pod, from the runtime's labels.";
    "k8s.pod.id" Text - "Id of the pod's sandbox, short.";
    "k8s.pod.sandbox_id" Text - "Id of the pod's sandbox, short.";
    "k8s.pod.full_sandbox_id" Text - "Id of the pod's sandbox.";
    "k8s.pod.label" (required) Text - "One label of the pod.";
    "k8s.pod.labels" Text - "Labels of the pod.";
    "k8s.pod.ip" Text - "Address of the pod.";
    "k8s.pod.cni.json" Text - "Answer of the network plugin.";

    [event]
    "container.duration" Duration container::container_duration "Age of the container.";
}
