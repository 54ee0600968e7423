"""What the page can do beyond being read: values under the pointer, and a browser. Without it nothing is lost."""

CHARTS = """
(() => {
  const NS = 'http://www.w3.org/2000/svg';
  const tip = document.body.appendChild(document.createElement('div'));
  tip.className = 'tip'; tip.hidden = true; tip.setAttribute('aria-hidden', 'true');
  const points = path => path._p ||= path.getAttribute('d').slice(1).split('L').map(p => p.split(' ').map(Number));
  const back = (axis, px) => {
    const [a, b, lo, hi] = axis.split(',').map(Number);
    return lo + (px - a) / (b - a) * (hi - lo);
  };
  document.querySelectorAll('svg.chart').forEach(svg => {
    const hair = svg.appendChild(document.createElementNS(NS, 'path'));
    hair.setAttribute('class', 'hair');
    const hide = () => { tip.hidden = true; hair.removeAttribute('d'); };
    svg.addEventListener('pointerleave', hide);
    svg.addEventListener('pointermove', event => {
      const x = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      const near = [...svg.querySelectorAll('path.line')].map(path => {
        const all = points(path), best = all.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
        return {name: path.dataset.name, css: path.parentNode.getAttribute('class'), at: best};
      }).filter(n => Math.abs(n.at[0] - x) < 12);
      if (!near.length) return hide();
      const px = near.reduce((a, b) => Math.abs(b.at[0] - x) < Math.abs(a.at[0] - x) ? b : a).at[0];
      const [top, bottom] = [20, Number(svg.dataset.y.split(',')[0])];
      hair.setAttribute('d', `M${px} ${top}V${bottom}`);
      const head = document.createElement('b');
      head.textContent = 'step ' + Math.round(back(svg.dataset.x, px));
      tip.replaceChildren(head);
      near.forEach(n => {
        const value = back(svg.dataset.y, n.at[1]);
        const shown = svg.dataset.percent ? (100 * value).toFixed(1) + ' %' : Number(value.toPrecision(3)).toString();
        const line = tip.appendChild(document.createElement('div'));
        line.className = n.css; line.textContent = n.name + ' ≈ ' + shown;
      });
      tip.hidden = false;
      const width = tip.offsetWidth;
      tip.style.left = Math.min(event.clientX + 14, innerWidth - width - 8) + 'px';
      tip.style.top = event.clientY + 16 + 'px';
    });
  });
})();
"""

# Filters the cards by what stands in their data attributes. Texts are only ever set as text.
BROWSER = """
(() => {
  const form = document.getElementById('browser');
  if (!form) return;
  const box = document.getElementById('cards'), more = document.getElementById('more');
  const said = document.getElementById('pick-said'), cards = [...box.children], PAGE = 12;
  const field = name => document.getElementById('pick-' + name);
  const keys = ['place', 'step', 'problem'];
  let most = PAGE;
  const fits = (card, but) => keys.every(k => k === but || !field(k).value || card.dataset[k] === field(k).value);
  const fill = key => {
    const select = field(key), kept = select.value;
    const values = [...new Set(cards.filter(c => fits(c, key)).map(c => c.dataset[key]))];
    if (key === 'step') values.sort((a, b) => a - b);
    select.replaceChildren(select.options[0], ...values.map(v => new Option(v, v)));
    select.value = values.includes(kept) ? kept : '';
  };
  const bound = (name, other) => field(name).value === '' ? other : Number(field(name).value);
  const show = () => {
    keys.forEach(fill);
    const low = bound('low', -Infinity), high = bound('high', Infinity);
    const any = low === -Infinity && high === Infinity;
    const inside = ({dataset: {reward}}) => any || reward !== undefined && low <= reward && reward <= high;
    cards.forEach(card => card.querySelectorAll('tbody tr').forEach(row => row.hidden = !inside(row)));
    const found = cards.filter(c => fits(c) && (any || c.querySelector('tbody tr:not([hidden])')));
    const order = field('order').value, sign = order === 'top' ? -1 : 1;
    const rank = card => card.dataset[order] === undefined ? 1e300 : sign * card.dataset[order];
    if (order) found.sort((a, b) => rank(a) - rank(b));
    cards.forEach(card => card.hidden = true);
    found.slice(0, most).forEach(card => card.hidden = false);
    box.append(...found);
    said.textContent = Math.min(most, found.length) + ' of ' + found.length + ' cards';
    more.hidden = found.length <= most;
  };
  form.addEventListener('input', () => { most = PAGE; show(); });
  form.addEventListener('submit', event => event.preventDefault());
  more.addEventListener('click', () => { most += PAGE; show(); });
  form.hidden = false;
  show();
})();
"""

# A table that is wider than the window says so in words.
SCROLLS = """
(() => {
  const mark = () => document.querySelectorAll('.scroll').forEach(
    box => box.classList.toggle('more', box.scrollWidth > box.clientWidth + 1));
  addEventListener('resize', mark);
  document.addEventListener('toggle', mark, true);
  mark();
})();
"""

SCRIPT = CHARTS + BROWSER + SCROLLS
