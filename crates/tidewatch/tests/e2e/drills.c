/* What the end-to-end tests do inside containers where no shell command does it. Built static at test time.
 *
 * The drill is named by the first argument. Each is harmless: what it attacks is itself or a peer in a test container. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/memfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static int dial(const char *address, const char *port)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, address, &peer.sin_addr);
    if (connect(fd, (struct sockaddr *)&peer, sizeof peer) != 0)
        exit(fail("connect"));
    return fd;
}

/* connect ADDRESS PORT [TEXT] */
static int drill_connect(char **args)
{
    int fd = dial(args[0], args[1]);

    if (args[2] && write(fd, args[2], strlen(args[2])) < 0)
        return fail("write");
    return 0;
}

/* redirect ADDRESS PORT: a shell whose three streams are a network connection. */
static int drill_redirect(char **args)
{
    int fd = dial(args[0], args[1]);

    for (int stream = 0; stream < 3; stream++)
        dup2(fd, stream);
    execl("/bin/sh", "sh", "-c", "true", (char *)NULL);
    return 1;
}

/* unix PATH: connects to a socket in the file system. */
static int drill_unix(char **args)
{
    struct sockaddr_un peer = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(peer.sun_path, sizeof peer.sun_path, "%s", args[0]);
    return connect(fd, (struct sockaddr *)&peer, sizeof peer) == 0 ? 0 : fail("connect");
}

static int drill_packet(char **args)
{
    (void)args;
    return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? fail("socket") : 0;
}

static int drill_traceme(char **args)
{
    (void)args;
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? fail("ptrace") : 0;
}

/* attach: to a child of its own. */
static int drill_attach(char **args)
{
    pid_t child = fork();
    int failed;

    (void)args;
    if (child == 0) {
        sleep(30);
        _exit(0);
    }
    failed = ptrace(PTRACE_ATTACH, child, NULL, NULL) < 0 ? fail("ptrace") : 0;
    if (!failed)
        waitpid(child, NULL, 0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return failed;
}

/* memfd PROGRAM ARGUMENTS: executes a copy of the program that has no name in any file system. */
static int drill_memfd(char **args)
{
    extern char **environ;
    char buffer[65536];
    ssize_t got;
    int from = open(args[0], O_RDONLY);
    int to = (int)syscall(SYS_memfd_create, "payload", MFD_CLOEXEC);

    if (from < 0 || to < 0)
        return fail("memfd");
    while ((got = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, (size_t)got) != got)
            return fail("write");
    syscall(SYS_execveat, to, "", &args[0], environ, AT_EMPTY_PATH);
    return fail("execveat");
}

/* open-late FILE: reads a file when it is no longer young, as a server does that was taken over. */
static int drill_open_late(char **args)
{
    sleep(6);
    return open(args[0], O_RDONLY) < 0 ? fail("open") : 0;
}

/* spawn PROGRAM ARGUMENTS: as a child, and waits for it. */
static int drill_spawn(char **args)
{
    pid_t child = fork();

    if (child == 0) {
        execv(args[0], args);
        _exit(127);
    }
    return waitpid(child, NULL, 0) == child ? 0 : fail("waitpid");
}

/* init-module: hands the kernel a module that is none. */
static int drill_init_module(char **args)
{
    (void)args;
    syscall(SYS_init_module, "not a module", 12UL, "");
    return 0;
}

/* bpf: loads the shortest program there is, and lets go of it. */
static int drill_bpf(char **args)
{
    struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr attributes = {
        .prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
        .insns = (__u64)(unsigned long)program,
        .insn_cnt = 2,
        .license = (__u64)(unsigned long)"GPL",
    };

    (void)args;
    return syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes) < 0 ? fail("bpf") : 0;
}

static int drill_user_namespace(char **args)
{
    (void)args;
    return unshare(CLONE_NEWUSER) < 0 ? fail("unshare") : 0;
}

/* wait: for a signal. */
static int drill_wait(char **args)
{
    (void)args;
    return pause();
}

/* become-root: which it is already. */
static int drill_become_root(char **args)
{
    (void)args;
    return setuid(0) < 0 ? fail("setuid") : 0;
}

/* call-itself NAME PROGRAM: runs the program under another first argument. */
static int drill_call_itself(char **args)
{
    execl(args[1], args[0], (char *)NULL);
    return fail("execl");
}

/* remove FILE */
static int drill_remove(char **args)
{
    return unlink(args[0]) < 0 ? fail("unlink") : 0;
}

/* create FILE */
static int drill_create(char **args)
{
    return open(args[0], O_WRONLY | O_CREAT, 0600) < 0 ? fail("open") : 0;
}

/* listen PORT */
static int drill_listen(char **args)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(args[0]))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    return bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, 1) < 0 ? fail("listen") : 0;
}

static int drill_fault_handler(char **args)
{
    (void)args;
    return syscall(SYS_userfaultfd, 1) < 0 ? fail("userfaultfd") : 0;
}

static int drill_ring(char **args)
{
    char parameters[120] = {0};

    (void)args;
    return syscall(SYS_io_uring_setup, 8, parameters) < 0 ? fail("io_uring_setup") : 0;
}

/* enter-descriptor DIRECTORY: goes there by way of a descriptor. */
static int drill_enter_descriptor(char **args)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/self/fd/%d", open(args[0], O_RDONLY | O_DIRECTORY));
    return chdir(path) < 0 ? fail("chdir") : 0;
}

static const struct {
    const char *name;
    int arguments;
    int (*drill)(char **args);
} drills[] = {
    {"connect", 2, drill_connect}, {"redirect", 2, drill_redirect},   {"unix", 1, drill_unix},
    {"packet", 0, drill_packet},   {"traceme", 0, drill_traceme},     {"attach", 0, drill_attach},
    {"memfd", 1, drill_memfd},     {"open-late", 1, drill_open_late}, {"spawn", 1, drill_spawn},
    {"init-module", 0, drill_init_module}, {"bpf", 0, drill_bpf},
    {"user-namespace", 0, drill_user_namespace}, {"wait", 0, drill_wait},
    {"become-root", 0, drill_become_root}, {"call-itself", 2, drill_call_itself}, {"remove", 1, drill_remove},
    {"create", 1, drill_create}, {"listen", 1, drill_listen}, {"fault-handler", 0, drill_fault_handler},
    {"ring", 0, drill_ring}, {"enter-descriptor", 1, drill_enter_descriptor},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof drills / sizeof *drills; i++)
        if (strcmp(argv[1], drills[i].name) == 0 && argc - 2 >= drills[i].arguments)
            return drills[i].drill(argv + 2);
    fprintf(stderr, "drills: unknown drill or too few arguments\n");
    return 2;
}
