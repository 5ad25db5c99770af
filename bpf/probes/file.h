/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls on files. */

#define FMODE_CREATED 0x100000
#define O_ACCMODE 03
#define O_CREAT 0100
#define O_TRUNC 01000

/* Whether an open with these flags neither writes nor makes anything, and travels with the many. */
static __always_inline bool only_reads(struct watched *call, u32 flags)
{
	return !(flags & (O_ACCMODE | O_CREAT | O_TRUNC)) && config.lane[call->kind] == TW_LANE_BULK;
}

#include "fold.h"

/* Whether an open with these flags is one of those that the agent may want a sample of only, and is left out. */
static __always_inline bool open_left_out(struct watched *call, u32 flags)
{
	u32 zero = 0;
	struct tw_sampling *wanted = bpf_map_lookup_elem(&sampling, &zero);

	if (!wanted || !(wanted->failed_opens | wanted->read_opens) || !only_reads(call, flags))
		return false;
	return left_out(call->kind, call->ret, call->ret < 0 ? wanted->failed_opens : wanted->read_opens);
}

SEC("tp_btf/sys_exit")
int handle_open(trace_args *ctx)
{
	struct watched call = read_call(ctx);
	struct scratch *scratch;
	struct tw_file *open;
	struct open_how how = {};
	struct inode *inode;
	struct file *file;
	struct opening opening = {};
	u32 slot = 0;
	u32 flags = arg_or(&call, call.args->flags, 0);
	u32 mode;

	if (call.args->implied & TW_CREAT)
		flags = 01101; /* O_WRONLY | O_CREAT | O_TRUNC */
	if (call.args->implied & TW_OPEN_HOW) {
		bpf_probe_read_user(&how, sizeof(how), (void *)call_arg(call.regs, call.compat, 3));
		flags = how.flags;
	}
	mode = call.args->implied & TW_OPEN_HOW ? how.mode : arg_or(&call, call.args->mode, 0);
	file = call.ret >= 0 ? file_of(call.task, call.ret) : 0;
	if (config.fold_opens && only_reads(&call, flags) && is_repeated(&call, flags, mode, file, &opening))
		return 0;
	if (open_left_out(&call, flags))
		return 0;
	if (config.lane[call.kind] == TW_LANE_PRIV && !within_budget(call.kind, call.ret, call.args->budget & TW_B_FREQUENT))
		return 0;
	scratch = begin(call.kind, call.ret, sizeof(*open), &slot);
	if (!scratch)
		return 0;
	open = (void *)scratch->record;
	open->fd = -1;
	open->dirfd = arg_or(&call, call.args->dirfd, AT_FDCWD);
	open->dirfd2 = AT_FDCWD;
	open->flags = flags;
	open->mode = mode;
	open->uid = opening.untold;
	if (call.args->path)
		add_user_text(scratch, &open->raw, (void *)call_arg(call.regs, call.compat, call.args->path));
	if (file) {
		inode = READ(file, f_inode);
		open->ino = READ(inode, i_ino);
		open->dev = READ(inode, i_sb, s_dev);
		open->attrs = file_attrs(file);
		if (READ(file, f_mode) & FMODE_CREATED)
			open->attrs |= TW_A_CREATED;
		add_rooted_path(scratch, slot, &open->path, &open->root, (struct path *)&file->f_path);
	} else if (call.ret < 0) {
		add_base(scratch, slot, &open->base, &open->raw, open->dirfd);
	}
	if (submit(scratch))
		told(&opening);
	return 0;
}

SEC("tp_btf/sys_exit")
int handle_path(trace_args *ctx)
{
	struct watched watched = read_call(ctx);
	struct scratch *scratch;
	struct mount_attr attr = {};
	struct tw_file *call;
	struct file *file;
	u32 slot = 0;

	paths_moved(watched.args, watched.ret);
	if (config.lane[watched.kind] == TW_LANE_PRIV &&
	    !within_budget(watched.kind, watched.ret, watched.args->budget & TW_B_FREQUENT))
		return 0;
	scratch = begin(watched.kind, watched.ret, sizeof(*call), &slot);
	if (!scratch)
		return 0;
	call = (void *)scratch->record;
	call->fd = arg_or(&watched, watched.args->fd, -1);
	call->dirfd = arg_or(&watched, watched.args->dirfd, AT_FDCWD);
	call->dirfd2 = arg_or(&watched, watched.args->dirfd2, AT_FDCWD);
	call->flags = arg_or(&watched, watched.args->flags, 0);
	call->mode = arg_or(&watched, watched.args->mode, 0);
	call->uid = arg_or(&watched, watched.args->uid, 0);
	call->gid = arg_or(&watched, watched.args->gid, 0);
	if (watched.args->implied & TW_MOUNT_ATTR &&
	    !bpf_probe_read_user(&attr, sizeof(attr), (void *)call_arg(watched.regs, watched.compat, 4))) {
		call->mode = attr.set;
		call->uid = attr.clear;
		call->gid = attr.propagation;
	}
	if (watched.args->path) {
		add_user_text(scratch, &call->raw, (void *)call_arg(watched.regs, watched.compat, watched.args->path));
		add_base(scratch, slot, &call->base, &call->raw, call->dirfd);
	}
	if (watched.args->path2) {
		add_user_text(scratch, &call->raw2, (void *)call_arg(watched.regs, watched.compat, watched.args->path2));
		add_base(scratch, slot, &call->base2, &call->raw2, call->dirfd2);
	}
	if (watched.args->extra)
		add_user_text(scratch, &call->extra, (void *)call_arg(watched.regs, watched.compat, watched.args->extra));
	file = watched.args->fd ? file_of(watched.task, call->fd) : 0;
	if (file) {
		call->attrs = file_attrs(file);
		call->ino = READ(file, f_inode, i_ino);
		add_rooted_path(scratch, slot, &call->path, &call->root, (struct path *)&file->f_path);
	} else if (watched.args->implied & TW_CWD && watched.ret >= 0 && watched.task->fs) {
		add_rooted_path(scratch, slot, &call->path, &call->root, &watched.task->fs->pwd);
	}
	submit(scratch);
	return 0;
}
