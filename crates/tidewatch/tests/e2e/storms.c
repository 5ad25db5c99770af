/* What the tests of the coverage ledger do inside containers, as fast as it goes. Built static at test time.
 *
 * storms flood SECONDS | opens SECONDS | execs N | attack FILES PROCESSES SOCKETS | nothing */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Opens, signals, setuid and a mount that is denied. */
static int flood(long seconds, int privileged)
{
    time_t end = time(NULL) + seconds;
    unsigned nth = 0;

    while (time(NULL) < end)
        for (int i = 0; i < 1000; i++) {
            /* No two opens are the same: those that are would be counted only. */
            close(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, nth++));
            if (!privileged)
                continue;
            /* Continuing what runs does nothing, but is a signal. */
            if (kill(getpid(), SIGCONT) != 0 || setuid(getuid()) != 0 || mount("none", "/nowhere", "tmpfs", 0, NULL) == 0)
                return 1;
        }
    return 0;
}

static int execs(long n)
{
    for (long i = 0; i < n; i++) {
        pid_t child = vfork();

        if (child == 0) {
            execl("/usr/local/bin/storms", "storms", "nothing", (char *)NULL);
            _exit(9);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            return 1;
    }
    return 0;
}

/* Files, processes and sockets that are all different. */
static int attack(long files, long processes, long sockets)
{
    char name[64];
    struct sockaddr_in peer = {.sin_family = AF_INET};

    for (long i = 0; i < files; i++) {
        snprintf(name, sizeof name, "/tmp/%ld", i);
        close(open(name, O_WRONLY | O_CREAT, 0600));
        unlink(name);
    }
    for (long i = 0; i < processes; i++) {
        pid_t child = fork();

        if (child == 0) {
            close(open("/etc/passwd", O_RDONLY));
            _exit(0);
        }
        if (child < 0 || waitpid(child, NULL, 0) != child)
            return 1;
    }
    for (long i = 0; i < sockets; i++) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        peer.sin_addr.s_addr = htonl(0x7f000001 + (unsigned)(i % 60000));
        peer.sin_port = htons((unsigned short)(1 + i % 65000));
        sendto(fd, "x", 1, 0, (struct sockaddr *)&peer, sizeof peer);
        close(fd);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "nothing") == 0)
        return 0;
    if (argc == 3 && strcmp(argv[1], "flood") == 0)
        return flood(atol(argv[2]), 1);
    if (argc == 3 && strcmp(argv[1], "opens") == 0)
        return flood(atol(argv[2]), 0);
    if (argc == 3 && strcmp(argv[1], "execs") == 0)
        return execs(atol(argv[2]));
    if (argc == 5 && strcmp(argv[1], "attack") == 0)
        return attack(atol(argv[2]), atol(argv[3]), atol(argv[4]));
    return 2;
}
