// SPDX-License-Identifier: GPL-2.0
/*
 * Driver for QEMU's ivshmem device: BAR 2 is memory that several virtual
 * machines share, BAR 0 has registers. With ivshmem-doorbell, a write to one of
 * them raises an MSI-X interrupt in another of the machines.
 *
 * Programs map the memory through /dev/ivshmemN, and have interrupts signal
 * eventfds: ivshmem_uapi.h.
 *
 * The device can go away at any time, while files are open and memory is mapped.
 * What open files need lives until the last one is closed; the rest is used
 * with the lock held, after a look whether the device is still there.
 */
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/nospec.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/pci.h>
#include <linux/pseudo_fs.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "ivshmem_uapi.h"

#define BAR_REGISTERS 0
#define BAR_MEMORY 2

#define REG_POSITION 8 /* the number of this peer */
#define REG_DOORBELL 12 /* peer << 16 | vector */
#define NUMBER_MAX 0xffff

struct ivshmem_vector {
	struct ivshmem_device *dev;
};

struct ivshmem_device {
	struct kref ref; /* one for the PCI device, one for each open file */
	struct miscdevice misc;
	char name[24];
	int id;
	struct inode *inode; /* all mappings are in its address space */
	unsigned long pfn; /* of the shared memory */
	u64 size;

	/* Readers use the hardware, the writer takes it away. */
	struct rw_semaphore lock;
	struct pci_dev *pdev; /* NULL if it is gone */
	void __iomem *registers;

	spinlock_t files_lock; /* for the list, and what its files have bound */
	struct list_head files;

	unsigned int nr_vectors;
	struct ivshmem_vector vectors[];
};

struct ivshmem_file {
	struct ivshmem_device *dev;
	struct list_head entry;
	enum ivshmem_cache cache;
	struct eventfd_ctx *bound[]; /* by vector */
};

static DEFINE_IDA(ivshmem_ida);
static struct vfsmount *ivshmem_mount;

/*
 * The parameter "cache"
 */

static const char *const cache_names[] = {
	[IVSHMEM_CACHE_WB] = "wb",
	[IVSHMEM_CACHE_WC] = "wc",
	[IVSHMEM_CACHE_UC] = "uc",
};

static enum ivshmem_cache cache = IVSHMEM_CACHE_WB;

static int cache_set(const char *text, const struct kernel_param *param)
{
	int found = sysfs_match_string(cache_names, text);

	if (found < 0)
		return found;
	WRITE_ONCE(cache, found);
	return 0;
}

static int cache_get(char *text, const struct kernel_param *param)
{
	return sprintf(text, "%s\n", cache_names[READ_ONCE(cache)]);
}

static const struct kernel_param_ops cache_ops = {
	.set = cache_set,
	.get = cache_get,
};
module_param_cb(cache, &cache_ops, NULL, 0644);
MODULE_PARM_DESC(cache, "How files that are opened from now on map the memory: wb (write-back, default), wc (write-combining), uc (uncached)");

/*
 * Memory
 */

static pgprot_t ivshmem_prot(pgprot_t prot, enum ivshmem_cache how)
{
	if (how == IVSHMEM_CACHE_WC)
		prot = pgprot_writecombine(prot);
	else if (how == IVSHMEM_CACHE_UC)
		prot = pgprot_noncached(prot);
	return pgprot_decrypted(prot);
}

static int ivshmem_set_pte(pte_t *pte, unsigned long address, void *data)
{
	struct vm_area_struct *vma = data;
	struct ivshmem_file *file = vma->vm_file->private_data;
	unsigned long pfn = file->dev->pfn + linear_page_index(vma, address);

	if (pte_none(ptep_get(pte)))
		set_pte_at(vma->vm_mm, address, pte,
			   pte_mkspecial(pfn_pte(pfn, vma->vm_page_prot)));
	return 0;
}

/*
 * Sets page table entries itself. remap_pfn_range() and vmf_insert_pfn() ask x86's
 * PAT code how to cache, and that makes a mapping uncached if an MTRR says so.
 * Firmware's MTRRs do so for all below 4 GiB that is not RAM. Hypervisors heed
 * the page tables, if anything.
 *
 * The entries are "special": without a struct page nobody can pin the memory of
 * a device that may go away.
 */
static vm_fault_t ivshmem_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct ivshmem_file *file = vma->vm_file->private_data;
	unsigned long start = max(vmf->address & PMD_MASK, vma->vm_start);
	unsigned long size = min(vma->vm_end - start, PMD_SIZE - (start & ~PMD_MASK));
	vm_fault_t result = VM_FAULT_SIGBUS;

	down_read(&file->dev->lock);
	if (file->dev->pdev)
		result = apply_to_page_range(vma->vm_mm, start, size, ivshmem_set_pte, vma) ?
				 VM_FAULT_OOM : VM_FAULT_NOPAGE;
	up_read(&file->dev->lock);
	return result;
}

static const struct vm_operations_struct ivshmem_vm_ops = {
	.fault = ivshmem_fault,
};

static int ivshmem_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct ivshmem_file *file = filp->private_data;
	unsigned long pages = file->dev->size >> PAGE_SHIFT;

	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = ivshmem_prot(vma->vm_page_prot, file->cache);
	vma->vm_ops = &ivshmem_vm_ops;
	return 0;
}

/*
 * Interrupts
 */

/* Signals all that are bound to vectors from `first` to before `end`. */
static void ivshmem_signal(struct ivshmem_device *dev, unsigned int first, unsigned int end)
{
	struct ivshmem_file *file;
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&dev->files_lock, flags);
	list_for_each_entry(file, &dev->files, entry) {
		for (i = first; i < end; i++) {
			if (file->bound[i])
				eventfd_signal_one(file->bound[i]);
		}
	}
	spin_unlock_irqrestore(&dev->files_lock, flags);
}

static irqreturn_t ivshmem_interrupt(int irq, void *data)
{
	struct ivshmem_vector *vector = data;
	unsigned int i = vector - vector->dev->vectors;

	ivshmem_signal(vector->dev, i, i + 1);
	return IRQ_HANDLED;
}

static void ivshmem_free_irqs(struct ivshmem_device *dev, struct pci_dev *pdev, unsigned int count)
{
	while (count-- > 0)
		free_irq(pci_irq_vector(pdev, count), &dev->vectors[count]);
	pci_free_irq_vectors(pdev);
}

/* Without vectors the memory can still be used. */
static int ivshmem_request_irqs(struct ivshmem_device *dev, struct pci_dev *pdev, int most)
{
	int count = most > 0 ? pci_alloc_irq_vectors(pdev, 1, most, PCI_IRQ_MSIX) : 0;
	int i, err;

	if (count < most)
		dev_warn(&pdev->dev,
			 "got %d of %d interrupt vectors, peers cannot ring the others: is MSI-X disabled (pci=nomsi)?\n",
			 max(count, 0), most);
	for (i = 0; i < count; i++) {
		dev->vectors[i].dev = dev;
		err = request_irq(pci_irq_vector(pdev, i), ivshmem_interrupt, 0, dev->name,
				  &dev->vectors[i]);
		if (err) {
			ivshmem_free_irqs(dev, pdev, i);
			return err;
		}
	}
	dev->nr_vectors = max(count, 0);
	return 0;
}

/*
 * Files
 */

static void ivshmem_device_free(struct kref *ref)
{
	struct ivshmem_device *dev = container_of(ref, struct ivshmem_device, ref);

	iput(dev->inode);
	kfree(dev);
}

/* The caller holds the lock that misc_deregister() takes: the device is there. */
static int ivshmem_open(struct inode *inode, struct file *filp)
{
	struct ivshmem_device *dev =
		container_of(filp->private_data, struct ivshmem_device, misc);
	struct ivshmem_file *file;

	file = kzalloc(struct_size(file, bound, dev->nr_vectors), GFP_KERNEL_ACCOUNT);
	if (!file)
		return -ENOMEM;
	kref_get(&dev->ref);
	file->dev = dev;
	file->cache = READ_ONCE(cache);
	filp->private_data = file;
	/* Of whatever node in the file system this is: so remove() finds all mappings. */
	filp->f_mapping = dev->inode->i_mapping;
	spin_lock_irq(&dev->files_lock);
	list_add_tail(&file->entry, &dev->files);
	spin_unlock_irq(&dev->files_lock);
	return nonseekable_open(inode, filp);
}

static int ivshmem_release(struct inode *inode, struct file *filp)
{
	struct ivshmem_file *file = filp->private_data;
	struct ivshmem_device *dev = file->dev;
	unsigned int i;

	spin_lock_irq(&dev->files_lock);
	list_del(&file->entry);
	spin_unlock_irq(&dev->files_lock);
	for (i = 0; i < dev->nr_vectors; i++) {
		if (file->bound[i])
			eventfd_ctx_put(file->bound[i]);
	}
	kfree(file);
	kref_put(&dev->ref, ivshmem_device_free);
	return 0;
}

static int ivshmem_info(struct ivshmem_file *file, struct ivshmem_info *info)
{
	struct ivshmem_device *dev = file->dev;

	*info = (struct ivshmem_info){
		.abi = IVSHMEM_ABI,
		.vectors = dev->nr_vectors,
		.size = dev->size,
		.peer = dev->nr_vectors > 0 ? (s32)ioread32(dev->registers + REG_POSITION) : -1,
		.cache = file->cache,
	};
	return 0;
}

static int ivshmem_bind(struct ivshmem_file *file, const struct ivshmem_bind *bind)
{
	struct ivshmem_device *dev = file->dev;
	struct eventfd_ctx *ctx, **bound;

	if (bind->vector >= dev->nr_vectors)
		return -EINVAL;
	bound = &file->bound[array_index_nospec(bind->vector, dev->nr_vectors)];
	ctx = eventfd_ctx_fdget(bind->eventfd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	spin_lock_irq(&dev->files_lock);
	if (!*bound)
		swap(*bound, ctx);
	spin_unlock_irq(&dev->files_lock);
	if (!ctx)
		return 0;
	eventfd_ctx_put(ctx);
	return -EBUSY;
}

static int ivshmem_unbind(struct ivshmem_file *file, u32 vector)
{
	struct ivshmem_device *dev = file->dev;
	struct eventfd_ctx *ctx = NULL;

	if (vector >= dev->nr_vectors)
		return -EINVAL;
	vector = array_index_nospec(vector, dev->nr_vectors);
	spin_lock_irq(&dev->files_lock);
	swap(file->bound[vector], ctx);
	spin_unlock_irq(&dev->files_lock);
	if (!ctx)
		return -ENOENT;
	eventfd_ctx_put(ctx);
	return 0;
}

static int ivshmem_ring(struct ivshmem_file *file, const struct ivshmem_ring *ring)
{
	if (ring->peer > NUMBER_MAX || ring->vector > NUMBER_MAX)
		return -EINVAL;
	if (file->dev->nr_vectors == 0)
		return -EOPNOTSUPP;
	/* Orders what was stored in memory before it. */
	iowrite32(ring->peer << 16 | ring->vector, file->dev->registers + REG_DOORBELL);
	return 0;
}

static long ivshmem_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct ivshmem_file *file = filp->private_data;
	void __user *user = (void __user *)arg;
	union {
		struct ivshmem_info info;
		struct ivshmem_bind bind;
		struct ivshmem_ring ring;
		u32 vector;
	} with;
	long result;

	if (cmd != IVSHMEM_INFO && cmd != IVSHMEM_BIND && cmd != IVSHMEM_UNBIND &&
	    cmd != IVSHMEM_RING)
		return -ENOTTY;
	if (_IOC_DIR(cmd) & _IOC_WRITE && copy_from_user(&with, user, _IOC_SIZE(cmd)))
		return -EFAULT;

	/* A page fault takes the lock, too: no access to the program's memory meanwhile. */
	down_read(&file->dev->lock);
	if (!file->dev->pdev)
		result = -ENODEV;
	else if (cmd == IVSHMEM_INFO)
		result = ivshmem_info(file, &with.info);
	else if (cmd == IVSHMEM_BIND)
		result = ivshmem_bind(file, &with.bind);
	else if (cmd == IVSHMEM_UNBIND)
		result = ivshmem_unbind(file, with.vector);
	else
		result = ivshmem_ring(file, &with.ring);
	up_read(&file->dev->lock);

	if (!result && _IOC_DIR(cmd) & _IOC_READ && copy_to_user(user, &with, _IOC_SIZE(cmd)))
		return -EFAULT;
	return result;
}

static const struct file_operations ivshmem_fops = {
	.owner = THIS_MODULE,
	.open = ivshmem_open,
	.release = ivshmem_release,
	.mmap = ivshmem_mmap,
	.unlocked_ioctl = ivshmem_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/*
 * The device
 */

static struct ivshmem_device *ivshmem_device_new(unsigned int vectors)
{
	struct ivshmem_device *dev = kzalloc(struct_size(dev, vectors, vectors), GFP_KERNEL);
	struct inode *inode;

	if (!dev)
		return ERR_PTR(-ENOMEM);
	inode = alloc_anon_inode(ivshmem_mount->mnt_sb);
	if (IS_ERR(inode)) {
		kfree(dev);
		return ERR_CAST(inode);
	}
	kref_init(&dev->ref);
	dev->inode = inode;
	init_rwsem(&dev->lock);
	spin_lock_init(&dev->files_lock);
	INIT_LIST_HEAD(&dev->files);
	return dev;
}

static int ivshmem_probe(struct pci_dev *pdev, const struct pci_device_id *pci_id)
{
	resource_size_t start = pci_resource_start(pdev, BAR_MEMORY);
	resource_size_t size = pci_resource_len(pdev, BAR_MEMORY);
	int vectors = max(pci_msix_vec_count(pdev), 0);
	struct ivshmem_device *dev;
	int err;

	if (size == 0) {
		dev_err(&pdev->dev, "BAR 2 has no address: there was no room for it below its bridge\n");
		return -ENODEV;
	}
	if (!PAGE_ALIGNED(start | size)) {
		dev_err(&pdev->dev, "BAR 2 is no shared memory of whole pages: %pR\n",
			&pdev->resource[BAR_MEMORY]);
		return -ENODEV;
	}
	dev = ivshmem_device_new(vectors);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	dev->pdev = pdev;
	dev->pfn = start >> PAGE_SHIFT;
	dev->size = size;

	dev->id = ida_alloc(&ivshmem_ida, GFP_KERNEL);
	if (dev->id < 0) {
		err = dev->id;
		goto put_device;
	}
	snprintf(dev->name, sizeof(dev->name), "ivshmem%d", dev->id);

	err = pci_enable_device(pdev);
	if (err)
		goto free_id;
	err = pci_request_regions(pdev, KBUILD_MODNAME);
	if (err)
		goto disable;
	dev->registers = pci_iomap(pdev, BAR_REGISTERS, 0);
	if (!dev->registers) {
		err = -ENOMEM;
		goto release_regions;
	}
	pci_set_master(pdev);
	err = ivshmem_request_irqs(dev, pdev, vectors);
	if (err)
		goto unmap;

	pci_set_drvdata(pdev, dev);
	dev->misc.minor = MISC_DYNAMIC_MINOR;
	dev->misc.name = dev->name;
	dev->misc.fops = &ivshmem_fops;
	dev->misc.parent = &pdev->dev;
	dev->misc.mode = 0660;
	err = misc_register(&dev->misc);
	if (err)
		goto free_irqs;
	dev_info(&pdev->dev, "%s: %llu bytes, %u vectors\n", dev->name, dev->size,
		 dev->nr_vectors);
	return 0;

free_irqs:
	ivshmem_free_irqs(dev, pdev, dev->nr_vectors);
unmap:
	pci_iounmap(pdev, dev->registers);
release_regions:
	pci_release_regions(pdev);
disable:
	pci_disable_device(pdev);
free_id:
	ida_free(&ivshmem_ida, dev->id);
put_device:
	kref_put(&dev->ref, ivshmem_device_free);
	return err;
}

static void ivshmem_remove(struct pci_dev *pdev)
{
	struct ivshmem_device *dev = pci_get_drvdata(pdev);

	misc_deregister(&dev->misc);
	down_write(&dev->lock);
	dev->pdev = NULL;
	up_write(&dev->lock);
	/* No fault maps a page, and no ioctl binds an eventfd, from here on. */
	unmap_mapping_range(dev->inode->i_mapping, 0, 0, 1);
	ivshmem_free_irqs(dev, pdev, dev->nr_vectors);
	/* Those who sleep shall look, and find ENODEV. */
	ivshmem_signal(dev, 0, dev->nr_vectors);
	pci_iounmap(pdev, dev->registers);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
	ida_free(&ivshmem_ida, dev->id);
	kref_put(&dev->ref, ivshmem_device_free);
}

static const struct pci_device_id ivshmem_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) },
	{ }
};
MODULE_DEVICE_TABLE(pci, ivshmem_ids);

/* Over a suspend the PCI core keeps the state of the device, vectors included. */
static struct pci_driver ivshmem_driver = {
	.name = KBUILD_MODNAME,
	.id_table = ivshmem_ids,
	.probe = ivshmem_probe,
	.remove = ivshmem_remove,
};

/*
 * The module
 */

static int ivshmem_init_fs_context(struct fs_context *context)
{
	return init_pseudo(context, 0x6976736d) ? 0 : -ENOMEM;
}

/* For the devices' inodes, never visible. With an owner, the mount would keep the module loaded. */
static struct file_system_type ivshmem_fs = {
	.name = KBUILD_MODNAME,
	.init_fs_context = ivshmem_init_fs_context,
	.kill_sb = kill_anon_super,
};

static int __init ivshmem_init(void)
{
	int err;

	ivshmem_mount = kern_mount(&ivshmem_fs);
	if (IS_ERR(ivshmem_mount))
		return PTR_ERR(ivshmem_mount);
	err = pci_register_driver(&ivshmem_driver);
	if (err)
		kern_unmount(ivshmem_mount);
	return err;
}
module_init(ivshmem_init);

static void __exit ivshmem_exit(void)
{
	pci_unregister_driver(&ivshmem_driver);
	kern_unmount(ivshmem_mount);
}
module_exit(ivshmem_exit);

MODULE_DESCRIPTION("QEMU's ivshmem device: cached shared memory, and interrupts as eventfds");
MODULE_LICENSE("GPL");
MODULE_VERSION("1");
