"""What the page can do beyond being read: values under the pointer in a chart. Without it nothing is lost."""

SCRIPT = """
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
