"""The stock: what an order costs, who is served first, what to buy."""

from dataclasses import dataclass

VAT_PERCENT = 20
SHIPPING = 495
FREE_SHIPPING_FROM = 5000


@dataclass
class Item:
    """Something on the shelf; money is in cents."""

    name: str
    quantity: int
    reorder_at: int = 5
    discontinued: bool = False


@dataclass
class Order:
    """Somebody waiting for one item; the higher priority goes first."""

    customer: str
    quantity: int
    priority: int = 0


def discount(quantity):
    """Per cent off for many of the same."""
    if quantity >= 100:
        return 15
    if quantity >= 10:
        return 5
    return 0


def line_price(price, quantity):
    """What `quantity` pieces cost with the discount, rounded down."""
    return price * quantity * (100 - discount(quantity)) // 100


def shipping(subtotal, pickup=False):
    """Free for large orders and for those who come for it."""
    if pickup or subtotal >= FREE_SHIPPING_FROM:
        return 0
    return SHIPPING


def with_vat(net, percent=VAT_PERCENT):
    """The net price and the tax on it, rounded down."""
    return net + net * percent // 100


def invoice(lines, pickup=False):
    """The total of (price, quantity) lines with tax and shipping."""
    subtotal = sum(line_price(price, quantity) for price, quantity in lines)
    return with_vat(subtotal) + shipping(subtotal, pickup)


def allocate(orders, available):
    """Who gets how many: by priority, small orders first, while there is some."""
    served = {}
    for order in sorted(orders, key=lambda order: (-order.priority, order.quantity)):
        given = min(order.quantity, available)
        if given > 0:
            served[order.customer] = given
            available -= given
    return served


def shortages(items):
    """The names of what to buy again, the emptiest shelf first."""
    short = [i for i in items if i.quantity <= i.reorder_at and not i.discontinued]
    short.sort(key=lambda item: item.quantity - item.reorder_at)
    return [item.name for item in short]


def packs(item, size=12):
    """Packs to buy to have twice the reorder level."""
    missing = item.reorder_at * 2 - item.quantity
    if missing <= 0:
        return 0
    return (missing + size - 1) // size


def pages(names, size=10):
    """The price list cut into pages of at most `size` names."""
    return [names[i:i + size] for i in range(0, len(names), size)]
