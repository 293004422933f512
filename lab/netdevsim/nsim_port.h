// SPDX-License-Identifier: GPL-2.0
/* Lab add-on for netdevsim: functions behind the ports of VFs (devlink port function), which it keeps and
 * validates a little. Everything goes through the kernel's own devlink core. */
static struct nsim_dev_port *lab_port(struct devlink_port *p) { return container_of(p, struct nsim_dev_port, devlink_port); }
static int lab_hw_addr_get(struct devlink_port *p, u8 *addr, int *len, struct netlink_ext_ack *e)
{
	memcpy(addr, lab_port(p)->lab.mac, ETH_ALEN);
	*len = ETH_ALEN;
	return 0;
}
static int lab_hw_addr_set(struct devlink_port *p, const u8 *addr, int len, struct netlink_ext_ack *e)
{
	if (len != ETH_ALEN || is_multicast_ether_addr(addr)) {
		NL_SET_ERR_MSG_MOD(e, "Not an address of a station");
		return -EINVAL;
	}
	memcpy(lab_port(p)->lab.mac, addr, ETH_ALEN);
	return 0;
}
#define LAB_SWITCH(name, field) \
static int lab_##name##_get(struct devlink_port *p, bool *on, struct netlink_ext_ack *e) \
{ *on = lab_port(p)->lab.field; return 0; } \
static int lab_##name##_set(struct devlink_port *p, bool on, struct netlink_ext_ack *e) \
{ lab_port(p)->lab.field = on; return 0; }
LAB_SWITCH(roce, roce)
LAB_SWITCH(migratable, migratable)
LAB_SWITCH(crypto, crypto)
static int lab_packet_get(struct devlink_port *p, bool *on, struct netlink_ext_ack *e) { *on = lab_port(p)->lab.packet; return 0; }
static int lab_packet_set(struct devlink_port *p, bool on, struct netlink_ext_ack *e)
{
	if (on && !lab_port(p)->lab.crypto) {
		NL_SET_ERR_MSG_MOD(e, "Packet offload needs crypto offload");
		return -EINVAL;
	}
	lab_port(p)->lab.packet = on;
	return 0;
}
static int lab_eqs_get(struct devlink_port *p, u32 *n, struct netlink_ext_ack *e) { *n = lab_port(p)->lab.eqs ?: 24; return 0; }
static int lab_eqs_set(struct devlink_port *p, u32 n, struct netlink_ext_ack *e)
{
	if (!n || n > 128) {
		NL_SET_ERR_MSG_MOD(e, "Event queues are 1 to 128");
		return -ERANGE;
	}
	lab_port(p)->lab.eqs = n;
	return 0;
}
static const struct devlink_port_ops lab_port_ops = {
	.port_fn_hw_addr_get = lab_hw_addr_get, .port_fn_hw_addr_set = lab_hw_addr_set,
	.port_fn_roce_get = lab_roce_get, .port_fn_roce_set = lab_roce_set,
	.port_fn_migratable_get = lab_migratable_get, .port_fn_migratable_set = lab_migratable_set,
	.port_fn_ipsec_crypto_get = lab_crypto_get, .port_fn_ipsec_crypto_set = lab_crypto_set,
	.port_fn_ipsec_packet_get = lab_packet_get, .port_fn_ipsec_packet_set = lab_packet_set,
	.port_fn_max_io_eqs_get = lab_eqs_get, .port_fn_max_io_eqs_set = lab_eqs_set,
};
/* The physical port has no function. */
#define devl_port_register(d, p, i) \
	devl_port_register_with_ops(d, p, i, nsim_dev_port_is_vf(lab_port(p)) ? &lab_port_ops : NULL)
