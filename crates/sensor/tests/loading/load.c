/*
 * Makes a known number of calls in a cgroup, and none besides:
 *
 *	load ENTER LEAVE opens setuids mounts forks datagrams
 *
 * ENTER and LEAVE are cgroup.procs files; what comes before and after happens outside of ENTER's cgroup.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in peer = { .sin_family = AF_INET, .sin_port = htons(9) };
	int enter, leave, datagram;
	uid_t self = getuid();
	long n[5];

	if (argc != 8)
		return 2;
	for (int i = 0; i < 5; i++)
		n[i] = atol(argv[3 + i]);
	enter = open(argv[1], O_WRONLY);
	leave = open(argv[2], O_WRONLY);
	datagram = socket(AF_INET, SOCK_DGRAM, 0);
	peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (enter < 0 || leave < 0 || datagram < 0 || write(enter, "0", 1) != 1)
		return 3;
	for (long i = 0; i < n[0]; i++)
		close(open("/etc/hostname", O_RDONLY));
	for (long i = 0; i < n[1]; i++)
		if (setuid(self))
			return 4;
	for (long i = 0; i < n[2]; i++)
		if (!mount("none", "/nonexistent", "tmpfs", 0, 0))
			return 5;
	for (long i = 0; i < n[3]; i++) {
		pid_t child = fork();

		if (!child)
			_exit(0);
		if (child < 0 || waitpid(child, 0, 0) != child)
			return 6;
	}
	for (long i = 0; i < n[4]; i++)
		sendto(datagram, "x", 1, 0, (struct sockaddr *)&peer, sizeof(peer));
	return write(leave, "0", 1) == 1 ? 0 : 7;
}
