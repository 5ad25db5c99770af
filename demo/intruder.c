/* The programs of the demonstration's intruders: harmless stand-ins that make the same system calls as the real ones.
 * Built static by build-images and placed into images under other names. Nothing here leaves the host: the peers are
 * containers on bridges that have no way out. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char subscribe[] =
    "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"demo-miner/1.0\"]}\n"
    "{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"demo-wallet\",\"x\"]}\n";

static int dial_inet(const char *address, const char *port)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (inet_pton(AF_INET, address, &peer.sin_addr) != 1 || fd < 0)
        return -1;
    return connect(fd, (struct sockaddr *)&peer, sizeof peer) == 0 ? fd : -1;
}

static int dial_unix(const char *path)
{
    struct sockaddr_un peer = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(peer.sun_path, sizeof peer.sun_path, "%s", path);
    return fd >= 0 && connect(fd, (struct sockaddr *)&peer, sizeof peer) == 0 ? fd : -1;
}

/* Sends a text and prints the first line of the answer. */
static int talk(int fd, const char *text)
{
    struct timeval patience = {.tv_sec = 2};
    char answer[512];
    ssize_t got;

    if (fd < 0) {
        perror("connect");
        return 1;
    }
    if (write(fd, text, strlen(text)) < 0)
        return 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    got = read(fd, answer, sizeof answer - 1);
    if (got > 0) {
        answer[got] = '\0';
        printf("%.*s\n", (int)strcspn(answer, "\r\n"), answer);
    }
    return 0;
}

/* What a miner does with the rest of the day. */
static void burn(int seconds)
{
    time_t end = time(NULL) + seconds;
    volatile unsigned long hash = 5381;

    while (time(NULL) < end)
        for (int i = 0; i < 1000000; i++)
            hash = hash * 33 + (unsigned long)i;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "mine") == 0 && argc == 4) {
        int failed = talk(dial_inet(argv[2], argv[3]), subscribe);
        burn(1);
        return failed;
    }
    if (strcmp(what, "beacon") == 0 && argc == 4)
        return talk(dial_inet(argv[2], argv[3]), "hello\n");
    if (strcmp(what, "docker") == 0 && argc == 3)
        return talk(dial_unix(argv[2]), "GET /containers/json HTTP/1.0\r\nHost: docker\r\n\r\n");
    fprintf(stderr, "usage: %s mine ADDRESS PORT | beacon ADDRESS PORT | docker SOCKET\n", argv[0]);
    return 2;
}
