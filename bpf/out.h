/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Putting records together and handing them over, with every loss counted. */
#ifndef TIDEWATCH_OUT_H
#define TIDEWATCH_OUT_H

static __always_inline struct tw_count *count_of(u16 kind)
{
	u32 row = kind;

	return bpf_map_lookup_elem(&counts, &row);
}

static __always_inline struct tw_table_use *table_use(u32 table)
{
	return bpf_map_lookup_elem(&table_uses, &table);
}

static __always_inline void inserted(u32 table)
{
	struct tw_table_use *use = table_use(table);

	if (use)
		__sync_fetch_and_add(&use->inserted, 1);
}

static __always_inline void removed(u32 table)
{
	struct tw_table_use *use = table_use(table);

	if (use)
		__sync_fetch_and_add(&use->removed, 1);
}

static __always_inline void refused(u32 table)
{
	struct tw_table_use *use = table_use(table);

	if (use)
		__sync_fetch_and_add(&use->refused, 1);
}

/* Puts a value into a table of the kernel half; what is new is counted, what was there is replaced. */
static __always_inline void put(void *map, u32 table, const void *key, const void *value)
{
	if (!bpf_map_update_elem(map, key, value, BPF_NOEXIST))
		inserted(table);
	else
		bpf_map_update_elem(map, key, value, BPF_ANY);
}

/* Takes a value out, if it is there. */
static __always_inline void take_out(void *map, u32 table, const void *key)
{
	if (!bpf_map_delete_elem(map, key))
		removed(table);
}

/*
 * Counts an event that gets no record: for its cgroup first and for all last, so that whoever sees the last change finds
 * the others. `ret` is the call's result. Exact counts cost cache lines that others share: cheap beside a record.
 */
static __noinline void miss_in(u64 cgroup, u16 kind, s64 ret, u32 why)
{
	struct tw_missed *entry = bpf_map_lookup_elem(&missed, &cgroup);
	struct tw_count *count;
	u64 *total;
	u32 zero = 0, class;

	kind &= TW_KINDS - 1;
	/* As in user space: a failed exec is no execution. */
	class = config.lane[kind] == TW_LANE_LIFE && ret < 0 ? TW_C_OTHER : config.class[kind];
	if (!entry) {
		static const struct tw_missed none;

		if (!bpf_map_update_elem(&missed, &cgroup, &none, BPF_NOEXIST))
			inserted(TW_T_MISSED);
		entry = bpf_map_lookup_elem(&missed, &cgroup);
		if (!entry) {
			entry = bpf_map_lookup_elem(&missed_rest, &zero);
			refused(TW_T_MISSED);
		}
	}
	if (class >= TW_CLASSES)
		class = TW_C_OTHER;
	if (why >= TW_MISSES)
		return;
	if (entry)
		__sync_fetch_and_add(&entry->n[class][why], 1);
	count = count_of(kind);
	if (count)
		__sync_fetch_and_add(&count->missed[why], 1);
	total = bpf_map_lookup_elem(&misses, &zero);
	if (total)
		__sync_fetch_and_add(total, 1);
}

static __always_inline void miss(u16 kind, s64 ret, u32 why)
{
	miss_in(bpf_get_current_cgroup_id(), kind, ret, why);
}

/* Whether only a sample of such events is wanted and this one is not in it; then it is counted. */
static __always_inline bool left_out(u16 kind, s64 ret, u32 one_in)
{
	/* By chance, so that nobody can choose what is left out. */
	if (!one_in || bpf_get_prandom_u32() % one_in == 0)
		return false;
	miss(kind, ret, TW_M_SAMPLED);
	return true;
}

/* A free scratch buffer, or null. */
static __always_inline struct scratch *claim(u32 *slot)
{
	struct scratch *scratch;

	for (u32 i = 0; i < 3; i++) {
		u32 row = i;

		scratch = bpf_map_lookup_elem(&scratches, &row);
		if (scratch && !__sync_val_compare_and_swap(&scratch->busy, 0, 1)) {
			*slot = i;
			return scratch;
		}
	}
	return 0;
}

/* The same with the header filled in; if there is none, the loss is counted. */
static __always_inline struct scratch *begin(u16 kind, s64 ret, u32 size, u32 *slot)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *scratch = claim(slot);
	struct tw_hdr *hdr;

	if (!scratch) {
		miss(kind, ret, TW_M_SCRATCH);
		return 0;
	}
	__builtin_memset(scratch->record, 0, sizeof(struct tw_exec));
	hdr = (void *)scratch->record;
	hdr->kind = kind;
	hdr->flags = is_compat(task) ? TW_F_COMPAT : 0;
	hdr->cpu = bpf_get_smp_processor_id();
	hdr->time = bpf_ktime_get_boot_ns();
	hdr->start = task->group_leader->start_boottime;
	hdr->cgroup = bpf_get_current_cgroup_id();
	hdr->pid = task->tgid;
	hdr->tid = task->pid;
	hdr->uid = task->cred->euid.val;
	hdr->gid = task->cred->egid.val;
	hdr->ret = ret;
	hdr->caps = read_cap(&task->cred->cap_effective);
	bpf_probe_read_kernel(hdr->comm, TW_COMM, task->comm);
	scratch->off = size;
	/* A failed exec costs its caller next to nothing: it must not crowd out the executions that happened. */
	scratch->lane = config.lane[kind & (TW_KINDS - 1)];
	if (scratch->lane == TW_LANE_LIFE && ret < 0)
		scratch->lane = TW_LANE_BULK;
	return scratch;
}

static __always_inline void drop(struct scratch *scratch)
{
	scratch->busy = 0;
}

/* Whether it is in the ring. */
static __always_inline bool submit(struct scratch *scratch)
{
	struct tw_hdr *hdr = (void *)scratch->record;
	u16 kind = hdr->kind;
	u32 size = scratch->off;
	struct tw_count *count = count_of(kind);
	u32 lane = scratch->lane;
	long err;

	if (size > TW_TAIL_MAX + TW_PATH_MAX)
		size = TW_TAIL_MAX + TW_PATH_MAX;
	hdr->size = size;
	/* No wake-up: the reader looks every few milliseconds, and the watched pay for no interrupt. */
	if (lane == TW_LANE_LIFE)
		err = bpf_ringbuf_output(&ring_life, hdr, size, BPF_RB_NO_WAKEUP);
	else if (lane == TW_LANE_PRIV)
		err = bpf_ringbuf_output(&ring_priv, hdr, size, BPF_RB_NO_WAKEUP);
	else
		err = bpf_ringbuf_output(&ring_bulk, hdr, size, BPF_RB_NO_WAKEUP);
	if (err)
		miss_in(hdr->cgroup, kind, hdr->ret, TW_M_RING);
	else if (count)
		count->sent++;
	drop(scratch);
	return !err;
}

/* Room for `max` more bytes (at most TW_PATH_MAX), or null. */
static __always_inline void *room(struct scratch *scratch)
{
	u32 off = scratch->off;

	if (off > TW_TAIL_MAX)
		return 0;
	return scratch->record + off;
}

static __always_inline void added(struct scratch *scratch, struct tw_str *str, long len, u32 max)
{
	struct tw_hdr *hdr = (void *)scratch->record;

	if (len < 0)
		return;
	if (len > max)
		len = max;
	str->off = scratch->off;
	str->len = len;
	if (len == max)
		hdr->flags |= TW_F_TRUNCATED;
	scratch->off += len;
}

/* Appends a NUL-ended string of user space, without the NUL. */
static __always_inline void add_user_text(struct scratch *scratch, struct tw_str *str, const void *text)
{
	void *to = room(scratch);

	if (!to || !text)
		return;
	added(scratch, str, bpf_probe_read_user_str(to, TW_PATH_MAX, text) - 1, TW_PATH_MAX - 1);
}

static __always_inline void add_kernel_text(struct scratch *scratch, struct tw_str *str, const void *text)
{
	void *to = room(scratch);

	if (!to || !text)
		return;
	added(scratch, str, bpf_probe_read_kernel_str(to, TW_PATH_MAX, text) - 1, TW_PATH_MAX - 1);
}

/* Appends bytes of user space; what cannot be read is left out. */
static __always_inline void add_user_bytes(struct scratch *scratch, struct tw_str *str, const void *from, u64 len, u32 max)
{
	void *to = room(scratch);

	if (!to || !from || !len)
		return;
	if (len > max)
		len = max;
	/* The compiler knows that this changes nothing; the verifier of 6.1 has to see it. */
	asm volatile("" : "+r"(len));
	if (len > TW_PATH_MAX)
		len = TW_PATH_MAX;
	if (bpf_probe_read_user(to, len, from))
		return;
	str->off = scratch->off;
	str->len = len;
	scratch->off += len;
}

/* Deeper than this, the front of a path is cut off: a directory and a mount point count one each. */
#define TW_DEPTH_MAX 2048

static long walk_up(u32 i, void *data)
{
	struct scratch *scratch = bpf_map_lookup_elem(&scratches, data /* the number of the buffer */);
	struct dentry *dentry, *parent;
	struct vfsmount *mnt;
	struct mount *mount;
	const unsigned char *name;
	struct walk *walk;
	u32 len, pos;

	if (!scratch)
		return 1;
	walk = &scratch->walk;
	dentry = walk->dentry;
	mnt = walk->mnt;
	pos = walk->pos;
	if (dentry == walk->root_dentry && mnt == walk->root_mnt) {
		/* Where the caller's root is that of its mount namespace, there is nothing above it. */
		walk->root_pos = pos;
	}
	parent = READ(dentry, d_parent);
	if (dentry == READ(mnt, mnt_root)) {
		/* The root of a mount: go on where it is mounted. */
		mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
		if (READ(mount, mnt_parent) == mount) {
			walk->whole = 1;
			return 1;
		}
		walk->dentry = READ(mount, mnt_mountpoint);
		mount = READ(mount, mnt_parent);
		walk->mnt = (void *)mount + bpf_core_field_offset(struct mount, mnt);
		return 0;
	}
	len = READ(dentry, d_name.len);
	name = READ(dentry, d_name.name);
	if (dentry == parent) {
		/* Its own root without a mount: a pipe, a socket, a memfd. Its name is all there is. */
		if (!len) {
			/* A pipe has no name at all. */
			walk->pos = TW_PATH_MAX + 1;
		} else if (pos == TW_PATH_MAX) {
			if (len > 255)
				len = 255;
			pos -= len;
			pos &= TW_PATH_MAX - 1;
			bpf_probe_read_kernel(scratch->path + pos, len, name);
			walk->pos = pos;
		}
		walk->whole = 1;
		return 1;
	}
	if (len > 255)
		len = 255;
	if (pos < len + 1)
		return 1;
	pos -= len + 1;
	pos &= TW_PATH_MAX - 1;
	scratch->path[pos] = '/';
	bpf_probe_read_kernel(scratch->path + pos + 1, len, name);
	walk->pos = pos;
	walk->dentry = parent;
	return 0;
}

/* Appends what the walk found from `pos` up to `end`. */
static __always_inline void add_walked(struct scratch *scratch, struct tw_str *str, u32 pos, u32 end)
{
	void *to = room(scratch);
	u32 len;

	pos &= TW_PATH_MAX - 1;
	len = end - pos;
	if (!to || len > TW_PATH_MAX)
		return;
	bpf_probe_read_kernel(to, len, scratch->path + pos);
	added(scratch, str, len, TW_PATH_MAX + 1);
}

/*
 * Appends the path of a dentry as the current process would name it from its root; if `root` is not null, also what
 * lies between that root and the one of the mount namespace: nothing, unless the process lives in a chroot.
 */
static __always_inline void add_rooted_path(struct scratch *scratch, u32 slot, struct tw_str *str, struct tw_str *root,
					    struct path *path)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fs_struct *fs = task->fs;
	struct tw_hdr *hdr = (void *)scratch->record;
	struct walk *walk = &scratch->walk;
	u32 start, top;

	walk->dentry = READ(path, dentry);
	walk->mnt = READ(path, mnt);
	walk->root_dentry = fs ? fs->root.dentry : 0;
	walk->root_mnt = fs ? fs->root.mnt : 0;
	walk->pos = TW_PATH_MAX;
	walk->root_pos = 0;
	walk->whole = 0;
	if (!walk->dentry)
		return;
	bpf_loop(TW_DEPTH_MAX, walk_up, &slot, 0);
	top = walk->pos;
	if (top > TW_PATH_MAX)
		return;
	if (!walk->whole && !walk->root_pos)
		hdr->flags |= TW_F_TRUNCATED;
	start = walk->root_pos ? walk->root_pos : top;
	if (root && top < start)
		add_walked(scratch, root, top, start);
	if (start >= TW_PATH_MAX) {
		start = TW_PATH_MAX - 1;
		scratch->path[TW_PATH_MAX - 1] = '/';
	}
	add_walked(scratch, str, start, TW_PATH_MAX);
}

static __always_inline void add_path(struct scratch *scratch, u32 slot, struct tw_str *str, struct path *path)
{
	add_rooted_path(scratch, slot, str, 0, path);
}

/* Appends the directory that a path argument is relative to, if it is relative. */
static __always_inline void add_base(struct scratch *scratch, u32 slot, struct tw_str *base, struct tw_str *raw, s32 dirfd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 off = raw->off;
	struct file *file;

	if (off > TW_TAIL_MAX || (raw->len && scratch->record[off] == '/'))
		return;
	if (dirfd == AT_FDCWD) {
		if (task->fs)
			add_path(scratch, slot, base, &task->fs->pwd);
		return;
	}
	file = file_of(task, dirfd);
	if (file)
		add_path(scratch, slot, base, (struct path *)&file->f_path);
}

/* Takes a token of the cgroup's budget for privileged calls, or of that for the frequent ones among them. */
static __always_inline bool take_token(bool frequent)
{
	/* Numbers of cgroups are inode numbers; the highest bit is free. */
	u64 cgroup = bpf_get_current_cgroup_id() | (u64)frequent << 63, now = bpf_ktime_get_boot_ns();
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &cgroup);
	struct bucket fresh = { .filled_at = now, .tokens = config.bucket_burst };
	u64 earned;

	if (!bucket) {
		bpf_map_update_elem(&buckets, &cgroup, &fresh, BPF_ANY);
		inserted(TW_T_BUCKETS);
		return true;
	}
	earned = (now - bucket->filled_at) * config.bucket_rate / 1000000000ull;
	if (earned) {
		bucket->filled_at = now;
		bucket->tokens = bucket->tokens + earned > config.bucket_burst ? config.bucket_burst :
										 bucket->tokens + earned;
	}
	if (bucket->tokens) {
		/* Two CPUs may take the same token: a few records more, never a miscount. */
		bucket->tokens--;
		return true;
	}
	return false;
}

/* Whether the cgroup still may report privileged calls; if not, the call is counted instead. */
static __always_inline bool within_budget(u16 kind, s64 ret, bool frequent)
{
	if (take_token(frequent))
		return true;
	miss(kind, ret, TW_M_FOLDED);
	return false;
}

#endif
