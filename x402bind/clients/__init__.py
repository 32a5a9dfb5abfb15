"""Client libraries that pay: one edge each, over one shared purse."""
