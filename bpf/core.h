/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Readers of kernel objects. */
#ifndef TIDEWATCH_CORE_H
#define TIDEWATCH_CORE_H

#define AT_FDCWD -100
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define OVERLAY_MAGIC 0x794c7630
#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6
#define SB_KERNMOUNT 0x400000
#define CAP_DAC_OVERRIDE 1
#define PIDTYPE_PGID 2
#define PIDTYPE_SID 3

/*
 * Reads a member as BPF_CORE_READ does. That calls a helper for each step; where the kernel lets a program say what a
 * pointer points to (6.2), it is a plain load, which counts on the paths that are walked for every open.
 */
#define READ(ptr, ...)                                                                                                 \
	(bpf_ksym_exists(bpf_rdonly_cast) ? ___arrow(bpf_core_cast(ptr, typeof(*(ptr))), __VA_ARGS__) :               \
					    BPF_CORE_READ(ptr, __VA_ARGS__))

/* Registers come with their type from the tracepoint: they are plain loads everywhere. */
#if defined(__TARGET_ARCH_x86)
#define TS_COMPAT 2
static __always_inline bool is_compat(struct task_struct *task)
{
	return task->thread_info.status & TS_COMPAT;
}

static __always_inline u64 call_number(struct pt_regs *regs)
{
	return regs->orig_ax;
}

static __always_inline u64 call_arg(struct pt_regs *regs, bool compat, u32 n)
{
	if (compat) {
		switch (n) {
		case 1: return (u32)regs->bx;
		case 2: return (u32)regs->cx;
		case 3: return (u32)regs->dx;
		case 4: return (u32)regs->si;
		case 5: return (u32)regs->di;
		case 6: return (u32)regs->bp;
		}
		return 0;
	}
	switch (n) {
	case 1: return regs->di;
	case 2: return regs->si;
	case 3: return regs->dx;
	case 4: return regs->r10;
	case 5: return regs->r8;
	case 6: return regs->r9;
	}
	return 0;
}
#elif defined(__TARGET_ARCH_arm64)
static __always_inline bool is_compat(struct task_struct *task)
{
	return false;
}

static __always_inline u64 call_number(struct pt_regs *regs)
{
	return BPF_CORE_READ(regs, syscallno);
}

static __always_inline u64 call_arg(struct pt_regs *regs, bool compat, u32 n)
{
	switch (n) {
	case 1: return BPF_CORE_READ(regs, orig_x0);
	case 2: return BPF_CORE_READ(regs, regs[1]);
	case 3: return BPF_CORE_READ(regs, regs[2]);
	case 4: return BPF_CORE_READ(regs, regs[3]);
	case 5: return BPF_CORE_READ(regs, regs[4]);
	case 6: return BPF_CORE_READ(regs, regs[5]);
	}
	return 0;
}
#endif

static __always_inline u64 read_cap(const kernel_cap_t *cap)
{
	u64 value = 0;

	/* Eight bytes in every version: one number since 6.3, two halves before. */
	bpf_probe_read_kernel(&value, sizeof(value), cap);
	return value;
}

/* Number of a pid structure in its own namespace, or in the initial one. */
static __always_inline u32 pid_number(struct pid *pid, bool own)
{
	u32 level = own ? BPF_CORE_READ(pid, level) : 0;
	void *first = __builtin_preserve_access_index(&pid->numbers[0].nr);
	int nr = 0;

	if (level > 32)
		return 0;
	/* An index would go by the size that vmlinux.h gives to an element, and that leaves out what is not read. */
	bpf_probe_read_kernel(&nr, sizeof(nr), first + level * bpf_core_type_size(struct upid));
	return nr;
}

static __always_inline struct file *file_of(struct task_struct *task, s32 fd)
{
	struct files_struct *files = task->files;
	struct file **table;
	struct file *file = 0;

	if (fd < 0 || !files || (u32)fd >= files->fdt->max_fds)
		return 0;
	table = files->fdt->fd;
	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	return file;
}

/* The socket behind a descriptor, or null. */
static __always_inline struct sock *sock_of(struct task_struct *task, s32 fd)
{
	struct file *file = file_of(task, fd);
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

static __always_inline u32 tty_number(struct task_struct *task)
{
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	u32 minor;

	if (!tty)
		return 0;
	/* As /proc/PID/stat and Falco show it: new_encode_dev of include/linux/kdev_t.h. */
	minor = BPF_CORE_READ(tty, driver, minor_start) + BPF_CORE_READ(tty, index);
	return (minor & 0xff) | BPF_CORE_READ(tty, driver, major) << 8 | (minor & ~0xff) << 12;
}

/* Nanoseconds since the epoch of an inode's change or modification; the members moved twice. */
static __always_inline u64 inode_ctime(struct inode *inode)
{
	struct inode___v66 *v66 = (void *)inode;
	struct inode___v61 *v61 = (void *)inode;

	if (bpf_core_field_exists(inode->i_ctime_sec))
		/* Since 6.13 the highest bit of the nanoseconds is a mark (I_CTIME_QUERIED). */
		return BPF_CORE_READ(inode, i_ctime_sec) * 1000000000ull +
		       (BPF_CORE_READ(inode, i_ctime_nsec) & 0x7fffffff);
	if (bpf_core_field_exists(v66->__i_ctime))
		return BPF_CORE_READ(v66, __i_ctime.tv_sec) * 1000000000ull + BPF_CORE_READ(v66, __i_ctime.tv_nsec);
	return BPF_CORE_READ(v61, i_ctime.tv_sec) * 1000000000ull + BPF_CORE_READ(v61, i_ctime.tv_nsec);
}

static __always_inline u64 inode_mtime(struct inode *inode)
{
	struct inode___v66 *v66 = (void *)inode;

	if (bpf_core_field_exists(inode->i_mtime_sec))
		return BPF_CORE_READ(inode, i_mtime_sec) * 1000000000ull + BPF_CORE_READ(inode, i_mtime_nsec);
	return BPF_CORE_READ(v66, i_mtime.tv_sec) * 1000000000ull + BPF_CORE_READ(v66, i_mtime.tv_nsec);
}

/* Where an inode lives: overlay layer, memory, kind. */
static __always_inline u32 inode_attrs(struct inode *inode)
{
	unsigned long magic = READ(inode, i_sb, s_magic);
	u32 mode = READ(inode, i_mode) & S_IFMT;
	u32 attrs = mode == S_IFDIR ? TW_A_DIR : mode == S_IFREG ? TW_A_REG : 0;

	if (magic == OVERLAY_MAGIC) {
		/* struct ovl_inode holds the inode, and right behind it the dentry in the upper layer. */
		struct dentry *upper = 0;

		bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode));
		attrs |= upper ? TW_A_UPPER : TW_A_LOWER;
	} else if ((magic == TMPFS_MAGIC || magic == HUGETLBFS_MAGIC) && mode == S_IFREG &&
		   READ(inode, i_nlink) == 0 && READ(inode, i_sb, s_flags) & SB_KERNMOUNT) {
		/* In the kernel's own mount, which nobody else has: not a file of /dev/shm that was removed. */
		attrs |= TW_A_MEMFD;
	}
	return attrs;
}

/* The same of an open file, and whether its name is still there. */
static __always_inline u32 file_attrs(struct file *file)
{
	struct dentry *dentry = READ(file, f_path.dentry);
	u32 attrs = inode_attrs(READ(file, f_inode));

	/* As d_unlinked() of include/linux/dcache.h. */
	if (attrs & (TW_A_REG | TW_A_DIR) && !READ(dentry, d_hash.pprev) &&
	    READ(dentry, d_parent) != dentry)
		attrs |= TW_A_DELETED;
	return attrs;
}

/* Whether the caller may write the inode, by mode bits and CAP_DAC_OVERRIDE. */
static __always_inline bool may_write(struct inode *inode, const struct cred *cred)
{
	u32 mode = BPF_CORE_READ(inode, i_mode);

	if (read_cap(&cred->cap_effective) >> CAP_DAC_OVERRIDE & 1)
		return true;
	if (BPF_CORE_READ(inode, i_uid.val) == BPF_CORE_READ(cred, fsuid.val))
		return mode & 0200;
	if (BPF_CORE_READ(inode, i_gid.val) == BPF_CORE_READ(cred, fsgid.val))
		return mode & 0020;
	return mode & 0002;
}

#endif
