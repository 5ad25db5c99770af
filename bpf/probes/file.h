/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls on files. */

#define FMODE_CREATED 0x100000

static __always_inline u64 numbered(struct pt_regs *regs, bool compat, u8 n, u64 otherwise)
{
	return n ? call_arg(regs, compat, n) : otherwise;
}

SEC("tp_btf/sys_exit")
int handle_open(trace_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (void *)ctx[0];
	s64 ret = ctx[1];
	bool compat = is_compat(task);
	u64 nr = call_number(regs) & (TW_CALLS - 1);
	u8 kind = (compat ? config.kind32[nr] : config.kind[nr]) & (TW_KINDS - 1);
	const volatile struct tw_args *args = &config.args[kind];
	struct scratch *scratch;
	struct tw_file *open;
	struct open_how how = {};
	struct inode *inode;
	struct file *file;
	u32 slot = 0;

	scratch = begin(kind, ret, sizeof(*open), &slot);
	if (!scratch)
		return 0;
	open = (void *)scratch->record;
	open->fd = -1;
	open->dirfd = numbered(regs, compat, args->dirfd, AT_FDCWD);
	open->dirfd2 = AT_FDCWD;
	open->flags = numbered(regs, compat, args->flags, 0);
	open->mode = numbered(regs, compat, args->mode, 0);
	if (args->implied & TW_CREAT)
		open->flags = 01101; /* O_WRONLY | O_CREAT | O_TRUNC */
	if (args->implied & TW_OPEN_HOW) {
		bpf_probe_read_user(&how, sizeof(how), (void *)call_arg(regs, compat, 3));
		open->flags = how.flags;
		open->mode = how.mode;
	}
	if (args->path)
		add_user_text(scratch, &open->raw, (void *)call_arg(regs, compat, args->path));
	file = ret >= 0 ? file_of(task, ret) : 0;
	if (file) {
		inode = BPF_CORE_READ(file, f_inode);
		open->ino = BPF_CORE_READ(inode, i_ino);
		open->dev = BPF_CORE_READ(inode, i_sb, s_dev);
		open->attrs = inode_attrs(inode);
		if (BPF_CORE_READ(file, f_mode) & FMODE_CREATED)
			open->attrs |= TW_A_CREATED;
		add_path(scratch, slot, &open->path, (struct path *)&file->f_path);
	} else if (ret < 0) {
		add_base(scratch, slot, &open->base, &open->raw, open->dirfd);
	}
	submit(scratch);
	return 0;
}

SEC("tp_btf/sys_exit")
int handle_path(trace_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (void *)ctx[0];
	s64 ret = ctx[1];
	bool compat = is_compat(task);
	u64 nr = call_number(regs) & (TW_CALLS - 1);
	u8 kind = (compat ? config.kind32[nr] : config.kind[nr]) & (TW_KINDS - 1);
	const volatile struct tw_args *args = &config.args[kind];
	struct scratch *scratch;
	struct tw_file *call;
	struct file *file;
	u32 slot = 0;

	if (config.lane[kind] == TW_LANE_PRIV && !within_budget(kind))
		return 0;
	scratch = begin(kind, ret, sizeof(*call), &slot);
	if (!scratch)
		return 0;
	call = (void *)scratch->record;
	call->fd = numbered(regs, compat, args->fd, -1);
	call->dirfd = numbered(regs, compat, args->dirfd, AT_FDCWD);
	call->dirfd2 = numbered(regs, compat, args->dirfd2, AT_FDCWD);
	call->flags = numbered(regs, compat, args->flags, 0);
	call->mode = numbered(regs, compat, args->mode, 0);
	call->uid = numbered(regs, compat, args->uid, 0);
	call->gid = numbered(regs, compat, args->gid, 0);
	if (args->path) {
		add_user_text(scratch, &call->raw, (void *)call_arg(regs, compat, args->path));
		add_base(scratch, slot, &call->base, &call->raw, call->dirfd);
	}
	if (args->path2) {
		add_user_text(scratch, &call->raw2, (void *)call_arg(regs, compat, args->path2));
		add_base(scratch, slot, &call->base2, &call->raw2, call->dirfd2);
	}
	if (args->extra)
		add_user_text(scratch, &call->extra, (void *)call_arg(regs, compat, args->extra));
	file = args->fd ? file_of(task, call->fd) : 0;
	if (file) {
		call->attrs = inode_attrs(BPF_CORE_READ(file, f_inode));
		call->ino = BPF_CORE_READ(file, f_inode, i_ino);
		add_path(scratch, slot, &call->path, (struct path *)&file->f_path);
	} else if (args->implied & TW_CWD && ret >= 0 && task->fs) {
		add_path(scratch, slot, &call->path, &task->fs->pwd);
	}
	submit(scratch);
	return 0;
}
