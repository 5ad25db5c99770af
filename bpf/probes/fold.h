/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Opens for reading that would say again what was said less than a second ago. They are counted, not told: a record is
 * dear, for the path must be walked and a ring that all share be written.
 */

/*
 * A told open stands for its repetitions for less than 96 ticks of the kernel: less than a second at 100 ticks a second, the
 * slowest there is. Reading the clock itself would cost a tenth of all this.
 */
#define FOLD_UNIT 4 /* 16 ticks, so that 32 bits last for two years */
#define FOLD_UNITS 6

/* What is known of an open that may be a repetition. */
struct opening {
	struct fold *fold; /* where it was put down, until its record is in the ring; null if nowhere */
	u32 version;
	u32 untold; /* opens like this one that were folded since the last record of one */
	u64 raw[FOLD_RAW / 8];
};

static __always_inline u32 fold_clock(void)
{
	u32 now = bpf_jiffies64() >> FOLD_UNIT;

	return now ? now : 1; /* 0 means: nothing was told */
}

/* Paths of what is there may have changed: nothing that was told before stands for what comes. */
static __always_inline void paths_moved(const volatile struct tw_args *args, s64 ret)
{
	u32 zero = 0;
	u64 *moved;

	if (!config.fold_opens || ret < 0 || !(args->implied & TW_MOVES))
		return;
	moved = bpf_map_lookup_elem(&moves, &zero);
	if (moved)
		__sync_fetch_and_add(moved, 1);
}

/* The one list of what makes two opens the same, but for the name as it was given. */
#define FOLD_KEY(each)                                                                                                 \
	each(start, task->group_leader->start_boottime)                                                                \
	each(cgroup, cgroup)                                                                                           \
	each(execs, task->self_exec_id)                                                                                \
	each(caps, *(u64 *)&task->cred->cap_effective)                                                                 \
	each(namespaces, (u64)task->nsproxy)                                                                           \
	each(root.mnt, (u64)fs->root.mnt)                                                                              \
	each(root.dentry, (u64)fs->root.dentry)                                                                        \
	each(at.mnt, (u64)mnt)                                                                                        \
	each(at.dentry, (u64)dentry)                                                                                   \
	each(ino, ino)                                                                                                 \
	each(comm[0], *(u64 *)&task->comm[0])                                                                          \
	each(comm[1], *(u64 *)&task->comm[8])                                                                          \
	each(pid, task->tgid)                                                                                          \
	each(tid, task->pid)                                                                                           \
	each(uid, task->cred->euid.val)                                                                                \
	each(gid, task->cred->egid.val)                                                                                \
	each(flags, flags)                                                                                             \
	each(mode, mode)                                                                                               \
	each(dirfd, dirfd)                                                                                             \
	each(error, error)                                                                                             \
	each(seq, seq)                                                                                                 \
	each(call, kind)
#define FOLD_SAME(member, value) && known->member == (value)
#define FOLD_KEEP(member, value) known->member = (value);

/*
 * Whether this open is a repetition; then it is counted. Else it is put down, and stands for others as soon as it is told:
 * see `told`. Pointers are compared, never followed later.
 */
static __always_inline bool is_repeated(struct watched *call, u32 flags, u32 mode, struct file *file,
					struct opening *opening)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fs_struct *fs = task->fs;
	u64 *raw = opening->raw, *moved, moved_now, hash, differs, state, ino = 0, cgroup;
	s32 dirfd = arg_or(call, call->args->dirfd, AT_FDCWD), error = 0;
	u32 kind = call->kind | (u32)call->compat << 8, seq = 0, row = 0, now;
	struct vfsmount *mnt = 0;
	struct dentry *dentry = 0;
	struct fold_key *known;
	struct fold *fold;
	bool same, fresh;
	long len;

	moved = bpf_map_lookup_elem(&moves, &row);
	if (!moved || !fs || !call->args->path)
		return false;
	len = bpf_probe_read_user_str(raw, FOLD_RAW, (void *)call_arg(call->regs, call->compat, call->args->path));
	if (len <= 0 || len >= FOLD_RAW)
		return false; /* unreadable, or too long: such opens are told, each of them */
	if (file) {
		if (READ(file, f_mode) & FMODE_CREATED)
			return false; /* news in any case */
		mnt = READ(file, f_path.mnt);
		dentry = READ(file, f_path.dentry);
		ino = READ(file, f_inode, i_ino);
		/* Counts renames and removals of this name. */
		seq = READ(dentry, d_seq.seqcount.sequence);
	} else if (call->ret >= 0) {
		return false;
	} else {
		error = call->ret;
		if (*(char *)raw != '/' && dirfd == AT_FDCWD) {
			mnt = fs->pwd.mnt;
			dentry = fs->pwd.dentry;
		} else if (*(char *)raw != '/') {
			file = file_of(call->task, dirfd);
			if (file) {
				mnt = READ(file, f_path.mnt);
				dentry = READ(file, f_path.dentry);
			}
		}
	}
	cgroup = bpf_get_current_cgroup_id();
	hash = (u64)task->pid << 32 | (u32)error;
#pragma unroll
	for (u32 i = 0; i < FOLD_RAW / 8; i++)
		hash += raw[i] << i;
	row = hash * 0x9e3779b97f4a7c15ull >> 56 & (TW_FOLDS - 1);
	fold = bpf_map_lookup_elem(&folds, &row);
	if (!fold)
		return false;
	state = *(volatile u64 *)&fold->state;
	if (state >> 32 & 1)
		return false; /* a task that this one has preempted is writing */
	now = fold_clock();
	known = &fold->key;
	moved_now = *moved;
	fresh = (u32)state && now - (u32)state < FOLD_UNITS && known->moves == moved_now;
	differs = 0;
#pragma unroll
	for (u32 i = 0; i < FOLD_RAW / 8; i++)
		differs |= known->raw[i] ^ raw[i];
	same = !differs FOLD_KEY(FOLD_SAME);
	/* The last look at the state says that nobody wrote meanwhile. */
	if (same && fresh && *(volatile u64 *)&fold->state == state) {
		fold->folded++;
		miss_in(cgroup, call->kind, call->ret, TW_M_REPEATED);
		return true;
	}
	if (__sync_val_compare_and_swap(&fold->state, state, ((state >> 32) + 1) << 32) != state)
		return false;
	if (!(state >> 32))
		inserted(TW_T_FOLDS);
	else if (!same && fresh)
		refused(TW_T_FOLDS);
	if (!same)
		fold->folded = 0;
	opening->untold = fold->folded;
	known->moves = moved_now;
	FOLD_KEY(FOLD_KEEP)
	__builtin_memcpy(known->raw, raw, FOLD_RAW);
	opening->fold = fold;
	opening->version = (state >> 32) + 2;
	asm volatile("" ::: "memory");
	*(volatile u64 *)&fold->state = (u64)opening->version << 32;
	return false;
}

/* The record of an open that was put down is in the ring: from now on it stands for others like it. */
static __always_inline void told(struct opening *opening)
{
	u64 put_down = (u64)opening->version << 32;

	if (opening->fold &&
	    __sync_val_compare_and_swap(&opening->fold->state, put_down, put_down | fold_clock()) == put_down)
		opening->fold->folded -= opening->untold; /* told with it */
}
